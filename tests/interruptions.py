"""What happens in the middle of a run: it is interrupted, or a worker is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal

from cimrobust.progress import NullProgress


class Interrupting(NullProgress):
    """Interrupts a run once, when some steps of its progress are done."""

    def __init__(self, step: int) -> None:
        self._left, self.happened = step, False

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._left -= steps
        if self._left < 0 and not self.happened:
            self.happened = True
            self.happen()

    def happen(self) -> None:
        raise KeyboardInterrupt


class KillsAWorker(Interrupting):
    """Kills a process of the cluster in place of the run."""

    def happen(self) -> None:
        victim = multiprocessing.active_children()[0]
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)


class KillsTheFirstWorker(KillsAWorker):
    """Kills a process of the cluster in the first step that is done while there is one."""

    def __init__(self) -> None:
        super().__init__(0)

    def advance(self, steps: int = 1, note: str = "") -> None:
        if multiprocessing.active_children():
            super().advance(steps, note)
