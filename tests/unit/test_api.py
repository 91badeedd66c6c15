"""The public names of the package."""

from __future__ import annotations

import pkgutil

import cimrobust


def test_no_subpackage_takes_the_place_of_a_public_name():
    # Importing cimrobust.x binds the attribute x of the package, in front of what it gives out
    # lazily.
    assert not {module.name for module in pkgutil.iter_modules(cimrobust.__path__)} & set(
        cimrobust.__all__
    )


def test_public_names_are_there():
    assert all(
        callable(getattr(cimrobust, name)) for name in cimrobust.__all__ if name != "__version__"
    )
