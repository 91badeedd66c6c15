"""Trials on processes and on workers of Dask: the table of one machine, whatever dies."""

from __future__ import annotations

import importlib.util
import multiprocessing
from pathlib import Path

import pytest

from cimrobust.cli.main import run
from cimrobust.pipeline.sharding import draw_shard
from cimrobust.progress import NullProgress
from tests.interruptions import Interrupting, KillsAWorker

TRIALS = 120
needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="distributed is not installed"
)


def draw(samples: Path, out: Path, *, cluster: str | None, resume: bool = False, progress) -> bytes:
    drawn = draw_shard(
        samples / "digits_cnn.onnx",
        data=samples / "digits_cnn.toml",
        out=out,
        shard="1/1",
        limit=30,
        trials=TRIALS,
        workers=1,
        cluster=cluster,
        resume=resume,
        progress=progress,
    )
    return (drawn.folder / "trials").read_bytes()


@pytest.fixture(scope="module")
def expected(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Trials that the threads of this process draw."""
    out = tmp_path_factory.mktemp("threads")
    return draw(samples, out, cluster=None, progress=NullProgress())


def test_a_killed_process_and_a_stopped_coordinator_change_no_trial(
    samples: Path, tmp_path: Path, expected: bytes
) -> None:
    with pytest.raises(KeyboardInterrupt):
        draw(samples, tmp_path, cluster="processes:1", progress=Interrupting(21))
    begun = (tmp_path / "shard-1-of-1" / "trials").read_bytes()
    assert 20 < begun.count(b"\n") < TRIALS
    assert expected.startswith(begun)
    assert not multiprocessing.active_children()
    progress = KillsAWorker(30)
    found = draw(samples, tmp_path, cluster="processes:2", resume=True, progress=progress)
    assert progress.happened
    assert found == expected


@needs_dask
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_of_dask_changes_no_trial(
    samples: Path, tmp_path: Path, expected: bytes
) -> None:
    progress = KillsAWorker(3)
    assert draw(samples, tmp_path, cluster="local:2", progress=progress) == expected
    assert progress.happened


def test_a_cluster_that_is_none_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["analyze", "none.onnx", "--data", "none.npz", "--out", str(tmp_path / "out")]
    assert run([*arguments, "--cluster", "slurm"]) == 2
    assert "cluster must be processes:N" in capsys.readouterr().err
