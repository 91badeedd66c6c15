"""Imports without the garbage collector."""

from __future__ import annotations

import gc

import pytest

from cimrobust.cli.uncollected import uncollected


@pytest.fixture
def thawed():
    """Begin and end with nothing set aside."""
    gc.unfreeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_objects_are_set_aside_once():
    with uncollected():
        assert not gc.isenabled()
    set_aside = gc.get_freeze_count()
    assert gc.isenabled()
    assert set_aside > 10_000  # at least what Python and pytest are made of
    kept = [[] for _ in range(1000)]
    with uncollected():
        pass
    assert len(kept) == 1000
    assert gc.get_freeze_count() <= set_aside


@pytest.mark.usefixtures("thawed")
def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.usefixtures("thawed")
def test_garbage_made_later_is_found():
    with uncollected():
        pass
    ring: list[object] = []
    ring.append(ring)
    del ring
    assert gc.collect() >= 1


@pytest.mark.usefixtures("thawed")
def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()
