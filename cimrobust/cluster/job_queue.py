"""Workers of Dask that a batch system starts: SLURM, LSF, PBS or SGE."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cimrobust.errors import UsageError
from cimrobust.input_file import printable
from cimrobust.settings_file import read_settings

_CLASSES = {
    "slurm": "SLURMCluster",
    "lsf": "LSFCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
}
#: What a batch system calls the account that a job is booked on.
_ACCOUNTS = {"slurm": "account", "lsf": "project", "pbs": "account", "sge": "project"}


def has_job_queues() -> bool:
    """Tell whether the library is installed."""
    return importlib.util.find_spec("dask_jobqueue") is not None


class JobQueue(BaseModel):
    """How jobs are handed to a batch system. Every job starts one worker for each of its cores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_: Annotated[Literal[1], Field(alias="schema")]
    """Version of this format."""
    system: Literal["slurm", "lsf", "pbs", "sge"]
    """The batch system."""
    jobs: Annotated[int, Field(ge=1, le=10_000)]
    """Jobs that are handed in. Work begins with the first that runs."""
    cores: Annotated[int, Field(ge=1, le=1024)] = 1
    """Cores of a job, and workers in it."""
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s?[kMGT]i?B$")]
    """Memory of a job, such as ``"16GB"``."""
    walltime: Annotated[str, Field(pattern=r"^[\d:]+$")] | None = None
    """Time of a job, such as ``"04:00:00"``. Left out: that of the site."""
    queue: str | None = None
    """Queue or partition. Left out: that of the site."""
    account: str | None = None
    """Account or project that jobs are booked on."""
    interface: str | None = None
    """Network interface that workers and scheduler find each other by, such as ``"ib0"``."""
    directives: list[str] = []
    """Further directives of a job, such as ``"--constraint=icelake"``."""
    prologue: list[str] = []
    """Shell commands that a job runs before its worker."""
    python: str | None = None
    """Python of the workers. Left out: the one that runs here."""
    scratch: str | None = None
    """Folder for the files of a worker on its node."""
    logs: str | None = None
    """Folder for what jobs print."""
    wait: Annotated[int, Field(ge=1, le=30 * 86400)] = 86400
    """Seconds to wait for the first worker."""

    @classmethod
    def read(cls, path: Path) -> JobQueue:
        """Read a file; raises UsageError that names every key that does not fit."""
        return read_settings(path, cls, what="job queue")

    def start(self) -> Any:
        """Hand the jobs in, and return the cluster of Dask that their workers join.

        Raises:
            UsageError: The batch system takes no job; says what it printed.
        """
        library = importlib.import_module("dask_jobqueue")
        try:
            with ExitStack() as stack:
                cluster = stack.enter_context(
                    getattr(library, _CLASSES[self.system])(**self.arguments())
                )
                cluster.scale(jobs=self.jobs)
                cluster.sync(_handed_in, cluster)
                stack.pop_all()
        except (OSError, RuntimeError, ValueError, TypeError) as err:
            raise UsageError(
                "batch system must take jobs, got"
                f" {type(err).__name__}: {printable(' '.join(str(err).split()))[:500]}"
                f' (--cluster, system = "{self.system}"); hand a job in by hand from this machine'
            ) from err
        return cluster

    def arguments(self) -> dict[str, Any]:
        """Return what this file states, by the names that dask-jobqueue has for it."""
        named: dict[str, Any] = {
            "cores": self.cores,
            "processes": self.cores,
            "memory": self.memory,
            "walltime": self.walltime,
            "queue": self.queue,
            "interface": self.interface,
            "python": self.python,
            "local_directory": self.scratch,
            "log_directory": self.logs,
            _ACCOUNTS[self.system]: self.account,
        }
        lists = {
            "job_extra_directives": self.directives,
            "job_script_prologue": self.prologue,
            # A limit would end workers, not trials.
            "worker_extra_args": ["--memory-limit", "0", "--no-dashboard"],
        }
        # Any free port of this machine: another run may have the usual one of the dashboard.
        served = {"scheduler_options": {"dashboard_address": "127.0.0.1:0"}}
        return {key: value for key, value in named.items() if value is not None} | lists | served


async def _handed_in(cluster: Any) -> None:
    """Wait until the batch system has taken all jobs; raises what it says of one it refuses."""
    await cluster
    core = importlib.import_module("distributed.core")
    try:
        for job in cluster.workers.values():
            # One that was taken is there at once, one that was refused is handed in once more.
            await job
    finally:
        for job in cluster.workers.values():
            if job.status == core.Status.created:
                # Else the library refuses to close the cluster.
                job.status = core.Status.failed
