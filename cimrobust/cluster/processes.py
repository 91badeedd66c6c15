"""Processes of this machine, each with a pipe of its own, so that one can die alone."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING

from cimrobust.cluster.blocks import MOST_ITEMS, Block, Blocks, share
from cimrobust.cluster.worker import Done, Site, do_block
from cimrobust.errors import CimrobustError, SelfCheckError

if TYPE_CHECKING:
    from cimrobust.cluster.executor import Item, Result, Task

#: Deaths without a finished block in between after which nothing more is tried.
_MOST_DEATHS = 5
#: Blocks a process that may wait for one before them.
_MOST_WAITING = 8
_SECONDS_TO_END = 5.0
_spawned = multiprocessing.get_context("spawn")


class Processes:
    """Processes of this machine; use it in a ``with`` statement."""

    def __init__(self, site: Site, number: int, *, most: int = MOST_ITEMS) -> None:
        """Say what they open, how many there are, and how many items a block has at most."""
        self._site, self._number, self._most = site, number, most
        self._workers: list[_Worker] = []
        self._deaths = 0

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers:
            worker.end()
        self._workers = []

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the result of every item, in order.

        The block of a process that dies is given to another one.

        Raises:
            CimrobustError: A worker refused to work, an item failed, or processes die again and
                again.
        """
        most = share(items, self._number, self._most)
        blocks, pickled = Blocks(items, most=most), pickle.dumps(task)
        wanted = min(self._number, len(items))
        try:
            while not blocks.are_over:
                while len(self._workers) < wanted:
                    self._workers.append(_Worker(self._site))
                self._give(blocks, pickled)
                self._take(blocks)
                yield from blocks.ready()
        finally:
            for worker in [worker for worker in self._workers if worker.block is not None]:
                worker.end()
                self._workers.remove(worker)

    def _give(self, blocks: Blocks, task: bytes) -> None:
        """Give every idle worker a block, unless results pile up behind a slow one."""
        for worker in self._workers:
            if worker.block is None:
                block = blocks.next(_MOST_WAITING * self._number)
                if block is not None:
                    worker.begin(task, block)

    def _take(self, blocks: Blocks) -> None:
        """Wait until a worker is done or dead."""
        busy = {worker.pipe: worker for worker in self._workers if worker.block is not None}
        for pipe in wait(list(busy)):
            assert isinstance(pipe, Connection)
            worker = busy[pipe]
            assert worker.block is not None
            block = worker.block
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                self._bury(worker)
                blocks.lost(block)
                continue
            worker.block = None
            if not isinstance(answer, Done):
                raise answer
            self._deaths = 0
            blocks.done(block[0], answer.results, answer.seconds)

    def _bury(self, worker: _Worker) -> None:
        """Forget a dead worker.

        Raises:
            SelfCheckError: Too many have died.
        """
        worker.end()
        self._workers.remove(worker)
        self._deaths += 1
        if self._deaths > _MOST_DEATHS:
            raise SelfCheckError(
                f"processes must live until a block is done, got {self._deaths} dead ones in a"
                f" row, the last with exit code {worker.exit_code} (--cluster processes); use"
                " fewer of them where memory is short, and protect a script of your own by if"
                ' __name__ == "__main__"'
            )


class _Worker:
    """One process, and the block it works on."""

    def __init__(self, site: Site) -> None:
        self.pipe, theirs = _spawned.Pipe()
        self._process = _spawned.Process(target=_serve, args=(theirs, site), daemon=True)
        self._process.start()
        theirs.close()
        self.block: Block | None = None

    @property
    def exit_code(self) -> int | None:
        """Exit code; minus the signal that ended it; None: it lives."""
        return self._process.exitcode

    def begin(self, task: bytes, block: Block) -> None:
        """Send a block; a dead process is noticed when its result is waited for."""
        self.block = block
        with suppress(OSError):
            self.pipe.send((task, block[1]))

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.terminate()
        self._process.join(_SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, site: Site) -> None:
    """Work on blocks until nobody sends any."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator gets it too, and ends this one
    with suppress(EOFError, OSError):
        while True:
            task, items = pipe.recv()
            try:
                answer: Done | Exception = do_block(
                    site.workplace, site.recipe, site.key, task, items
                )
            except CimrobustError as err:
                answer = err
            except Exception as err:
                answer = SelfCheckError(
                    f"worker must end a block, got {type(err).__name__}: {err} (--cluster);"
                    " report this"
                )
            pipe.send(answer)
