"""What is said of a cluster of Dask that does not answer, with a client that plays its part."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from cimrobust.cluster import dask_cluster
from cimrobust.cluster.dask_cluster import Dask
from cimrobust.errors import SelfCheckError, UsageError


class KilledWorker(Exception):  # noqa: N818
    """As Dask calls it."""


def raising(error: Exception) -> Any:
    def raises(*_: object, **__: object) -> None:
        raise error

    return raises


@pytest.fixture
def cluster() -> Dask:
    return Dask(SimpleNamespace(), scheduler="tcp://10.0.0.1:8786")  # type: ignore[arg-type]


def test_a_scheduler_that_does_not_answer_is_named(cluster: Dask) -> None:
    nobody = SimpleNamespace(Client=raising(OSError("timed out")))
    with (
        ExitStack() as stack,
        pytest.raises(
            UsageError,
            match=r"cluster must have a scheduler of Dask that answers, got OSError: timed out"
            r" \(--cluster tcp://10.0.0.1:8786\); start `dask scheduler` first",
        ),
    ):
        cluster._connected(nobody, stack)


def test_a_scheduler_without_workers_is_named(cluster: Dask) -> None:
    cluster._client = SimpleNamespace(wait_for_workers=raising(TimeoutError()))
    with pytest.raises(UsageError, match="cluster must have a worker, got none within 60 seconds"):
        cluster._wait_for_a_worker()


def test_a_scheduler_that_goes_ends_the_run(cluster: Dask) -> None:
    cluster._client = SimpleNamespace(status="running")
    cluster._check_lost(1)
    cluster._client = SimpleNamespace(status="closed")
    with pytest.raises(
        SelfCheckError, match=r"cluster must stay reachable until all work is done, got .*--resume"
    ):
        cluster._check_lost(1)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KilledWorker("block 3"), "workers must live until a block is done, got one that ended"),
        (AttributeError("no such name"), "worker must end a block, got AttributeError: no such"),
    ],
)
def test_what_ended_a_block_is_told(error: Exception, message: str) -> None:
    with pytest.raises(SelfCheckError, match=message):
        dask_cluster._result(SimpleNamespace(result=raising(error)))
