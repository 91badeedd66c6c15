from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.cluster import address
from cimrobust.cluster.address import Address
from cimrobust.errors import UsageError


def test_places_to_work_are_read(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text("{}")
    assert Address.parse("processes:3") == Address("processes", 3)
    assert Address.parse("local:2") == Address("local", 2)
    assert Address.parse("tcp://node1:8786") == Address("scheduler", 0, "tcp://node1:8786")
    assert Address.parse(str(file)) == Address("file", 0, str(file))


@pytest.mark.parametrize(
    "text", ["", "local", "local:0", "processes:2000", "tcp://node1", "slurm", "http://x:1"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cluster must be processes:N, local:N"):
        Address.parse(text)


def test_a_scheduler_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="scheduler file must be a readable file"):
        Address.parse("missing.json")


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "has_dask", lambda: False)
    assert Address.parse("processes:2").number == 2
    with pytest.raises(UsageError, match=r"pip install 'cimrobust\[dask\]'"):
        Address.parse("local:2")
