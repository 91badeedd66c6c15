"""Where to work, as a user names it."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cimrobust.cluster.blocks import MOST_ITEMS
from cimrobust.cluster.dask_cluster import Dask, has_dask
from cimrobust.cluster.job_queue import JobQueue, has_job_queues
from cimrobust.cluster.processes import Processes
from cimrobust.errors import UsageError
from cimrobust.input_file import printable

if TYPE_CHECKING:
    from cimrobust.cluster.worker import Site

_MOST_PROCESSES = 1024


@dataclass(frozen=True)
class Address:
    """Where to work.

    Attributes:
        kind: Processes of this machine, workers of Dask on it, those of a scheduler, or those that
            a batch system starts.
        number: Processes or workers to start; 0 where a scheduler has them.
        scheduler: Address of the scheduler, or file that it states it in; empty: there is none.
        queue: How jobs are handed to a batch system.
    """

    kind: Literal["processes", "local", "scheduler", "file", "queue"]
    number: int = 0
    scheduler: str = ""
    queue: JobQueue | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read what a user gave.

        Raises:
            UsageError: It is no place to work, a file does not fit, or Dask is not installed.
        """
        found = re.fullmatch(r"(processes|local):(\d{1,6})", text, re.ASCII)
        if found and 1 <= int(found[2]) <= _MOST_PROCESSES:
            kind: Literal["processes", "local"] = "local" if found[1] == "local" else "processes"
            address = cls(kind, int(found[2]))
        elif re.match(r"(tcp|tls)://.+:\d+$", text):
            address = cls("scheduler", scheduler=text)
        elif text.endswith(".json"):
            address = cls("file", scheduler=str(Path(text).absolute()))
            if not Path(text).is_file():
                raise UsageError(
                    f"scheduler file must be a readable file, got none ({printable(text)},"
                    " --cluster); start `dask scheduler --scheduler-file FILE` first"
                )
        elif text.endswith(".toml"):
            address = cls("queue", queue=JobQueue.read(Path(text)))
        else:
            raise UsageError(
                "cluster must be processes:N, local:N with N from 1 to"
                f" {_MOST_PROCESSES}, tcp://HOST:PORT, tls://HOST:PORT, a scheduler file"
                f" (.json) or a job queue (.toml), got '{printable(text)[:80]}' (--cluster); give"
                " one of them"
            )
        if address.kind == "queue" and not has_job_queues():
            raise UsageError(
                f"job queue '{printable(text)[:80]}' needs dask-jobqueue, got no such package"
                " (--cluster); pip install 'cimrobust[dask]'"
            )
        if address.kind != "processes" and not has_dask():
            raise UsageError(
                f"cluster '{printable(text)[:80]}' needs Dask, got no package 'distributed'"
                " (--cluster); pip install 'cimrobust[dask]', or give processes:N"
            )
        return address

    def open(
        self, site: Site, *, most: int = MOST_ITEMS
    ) -> AbstractContextManager[Processes | Dask]:
        """Return the executor that works there.

        Args:
            site: What its workers open.
            most: Items that a block has at most.
        """
        if self.kind == "processes":
            return Processes(site, self.number, most=most)
        return Dask(
            site,
            workers=self.number,
            scheduler=self.scheduler if self.kind == "scheduler" else "",
            scheduler_file=self.scheduler if self.kind == "file" else "",
            queue=self.queue,
            most=most,
        )
