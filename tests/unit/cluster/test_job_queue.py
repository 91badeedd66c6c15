"""Jobs of a batch system, with commands in place of SLURM that run a job at once."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from cimrobust.cluster import address
from cimrobust.cluster.address import Address
from cimrobust.cluster.job_queue import JobQueue
from cimrobust.cluster.worker import Site
from cimrobust.errors import UsageError

needs_queues = pytest.mark.skipif(
    importlib.util.find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed"
)
QUEUE = 'schema = 1\nsystem = "slurm"\njobs = 2\nmemory = "1GB"\nqueue = "night"\n'


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    path = tmp_path / "queue.toml"
    path.write_text(QUEUE + 'account = "chips"\ndirectives = ["--constraint=icelake"]\nwait = 60\n')
    return path


def command(folder: Path, name: str, body: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/bash\n{body}\n")
    file.chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with an ``sbatch`` that keeps the script and runs it, and an ``scancel``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(
        folder,
        "sbatch",
        f'cp "$1" {folder}/job.$$.sh; setsid bash {folder}/job.$$.sh >/dev/null 2>&1 </dev/null &\n'
        'echo "Submitted batch job $!"',
    )
    command(folder, "scancel", 'kill -- "-$1" 2>/dev/null; true')
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@needs_queues
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_do_the_work_although_one_dies(
    slurm: Path, queue: Path, tasks: ModuleType, tmp_path: Path
) -> None:
    site = Site.of(tasks.Nothing(), "key")
    with Address.parse(str(queue)).open(site, most=4) as executor:
        task = tasks.Squares(str(tmp_path / "died"))
        assert list(executor.map_ordered(task, range(40))) == [n**2 for n in range(40)]
    assert (tmp_path / "died").exists()
    jobs = [file.read_text() for file in slurm.glob("job.*.sh")]
    assert len(jobs) == 2
    for line in ("-p night", "-A chips", "--constraint=icelake", "--cpus-per-task=1"):
        assert f"#SBATCH {line}\n" in jobs[0]


@needs_queues
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_batch_system_that_takes_no_job_is_named(
    slurm: Path, queue: Path, tasks: ModuleType
) -> None:
    command(slurm, "sbatch", 'echo "Invalid account" >&2; exit 1')
    executor = Address.parse(str(queue)).open(Site.of(tasks.Nothing(), "key"))
    with pytest.raises(UsageError, match=r'batch system must take jobs.*system = "slurm"'):
        executor.__enter__()


@needs_queues
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_that_never_run_are_given_up(slurm: Path, queue: Path, tasks: ModuleType) -> None:
    command(slurm, "sbatch", 'echo "Submitted batch job 999999"')
    queue.write_text(f"{QUEUE}wait = 1\n")
    executor = Address.parse(str(queue)).open(Site.of(tasks.Nothing(), "key"))
    with pytest.raises(UsageError, match=r"none within 1 seconds .*slurm.*set 'wait' higher"):
        executor.__enter__()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'schema'"),
        (QUEUE.replace("slurm", "condor"), "'system'"),
        (QUEUE.replace("jobs = 2", "jobs = 0"), "'jobs'"),
        (QUEUE.replace("1GB", "much"), "'memory'"),
        (f"{QUEUE}quue = 1\n", "quue"),
    ],
)
def test_what_does_not_fit_is_named(queue: Path, text: str, words: str) -> None:
    queue.write_text(text)
    with pytest.raises(UsageError, match="job queue must follow its format") as caught:
        Address.parse(str(queue))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("system", "name"), [("slurm", "account"), ("lsf", "project"), ("sge", "project")]
)
def test_the_account_has_the_name_of_the_batch_system(system: str, name: str) -> None:
    queue = JobQueue(schema=1, system=system, jobs=1, memory="1GB", account="chips")
    assert queue.arguments()[name] == "chips"
    # Port 8787, the usual one, may be taken by another run.
    assert queue.arguments()["scheduler_options"] == {"dashboard_address": "127.0.0.1:0"}


def test_without_the_library_the_extra_is_named(
    queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "has_job_queues", lambda: False)
    with pytest.raises(UsageError, match=r"dask-jobqueue.*pip install 'cimrobust\[dask\]'"):
        Address.parse(str(queue))
