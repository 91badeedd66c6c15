"""Processes and workers of Dask: results in order, dead workers, workers that refuse."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from cimrobust.cluster import processes
from cimrobust.cluster.address import Address
from cimrobust.cluster.worker import Site, check_workplace
from cimrobust.cluster.workplace import workplace
from cimrobust.errors import CimrobustError, SelfCheckError, UsageError

KINDS = [
    "processes:2",
    pytest.param(
        "local:2",
        marks=[
            pytest.mark.skipif(
                importlib.util.find_spec("distributed") is None, reason="distributed is not there"
            ),
            pytest.mark.filterwarnings("ignore::ResourceWarning"),
            pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ],
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_same_where_a_worker_dies_and_errors_come_back(
    tasks: ModuleType, tmp_path: Path, kind: str
) -> None:
    site = Site.of(tasks.Nothing(), "key")
    with Address.parse(kind).open(site, most=4) as executor:
        task = tasks.Squares(str(tmp_path / "died"))
        assert list(executor.map_ordered(task, range(40))) == [n**2 for n in range(40)]
        assert (tmp_path / "died").exists()
        results = executor.map_ordered(task, range(40))
        assert [next(results), next(results)] == [0, 1]
        results.close()
        with pytest.raises(UsageError, match="item must be small"):
            list(executor.map_ordered(tasks.Fails("usage"), range(9)))
        with pytest.raises(
            SelfCheckError, match=r"worker must end a block, got KeyError.*--cluster"
        ):
            list(executor.map_ordered(tasks.Fails("key"), range(9)))


def test_processes_that_die_again_and_again_are_given_up(
    tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_MOST_DEATHS", 1)
    site = Site.of(tasks.Nothing(), "key")
    # Of one process, so that the items before the deadly one are done.
    with (
        Address.parse("processes:1").open(site) as executor,
        pytest.raises(SelfCheckError, match=r"dead ones in a row, the last with exit code -9"),
    ):
        list(executor.map_ordered(tasks.Fails("dies"), range(4)))


def test_a_worker_of_another_version_refuses_to_work(tasks: ModuleType) -> None:
    site = Site.of(tasks.Nothing(), "key")
    other = replace(site, workplace={**site.workplace, "versions": "cimrobust 0.1"})
    with (
        Address.parse("processes:1").open(other) as executor,
        pytest.raises(UsageError, match=r"got cimrobust .* instead of cimrobust 0\.1"),
    ):
        list(executor.map_ordered(tasks.Fails("usage"), range(2)))


def test_a_worker_with_other_instruction_sets_refuses_to_work() -> None:
    check_workplace(workplace())
    with pytest.raises(CimrobustError, match="processors of one kind"):
        check_workplace({**workplace(), "machine": "x86_64 avx"})
