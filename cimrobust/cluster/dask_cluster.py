"""Workers of Dask: on this machine, or wherever a scheduler has them."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cimrobust.cluster.blocks import MOST_ITEMS, Block, Blocks, share
from cimrobust.cluster.worker import Site, do_block
from cimrobust.errors import CimrobustError, SelfCheckError, UsageError

if TYPE_CHECKING:
    from cimrobust.cluster.executor import Item, Result, Task
    from cimrobust.cluster.job_queue import JobQueue

_SECONDS_TO_CONNECT = 60
#: Blocks lost without a finished one in between after which nothing more is tried.
_MOST_LOST = 20
#: Blocks a thread of a worker that are sent ahead, and that may wait for one before them.
_SENT_AHEAD, _MOST_WAITING = 2, 8


def has_dask() -> bool:
    """Tell whether the extra is installed."""
    return importlib.util.find_spec("distributed") is not None


class Dask:
    """Workers of Dask; use it in a ``with`` statement."""

    def __init__(
        self,
        site: Site,
        *,
        workers: int = 0,
        scheduler: str = "",
        scheduler_file: str = "",
        queue: JobQueue | None = None,
        most: int = MOST_ITEMS,
    ) -> None:
        """Say what workers open, and where they are: one of the next four.

        Args:
            site: What they open.
            workers: Processes to start on this machine.
            scheduler: Address of a scheduler that has workers.
            scheduler_file: File in which such a scheduler states its address.
            queue: Batch system that starts workers.
            most: Items that a block has at most.
        """
        self._site, self._most, self._number = site, most, workers
        self._scheduler, self._scheduler_file, self._queue = scheduler, scheduler_file, queue
        self._stack = ExitStack()
        self._client: Any = None

    def __enter__(self) -> Dask:
        """Connect.

        Raises:
            UsageError: There is no scheduler, it has no worker, or the batch system takes no job.
        """
        distributed = importlib.import_module("distributed")
        with ExitStack() as stack:
            self._client = self._connected(distributed, stack)
            self._wait_for_a_worker()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        """Yield the result of every item, in order.

        Dask gives the block of a worker that dies to another one.

        Raises:
            CimrobustError: A worker refused to work, an item failed, workers die again and again,
                or the scheduler is gone.
        """
        distributed = importlib.import_module("distributed")
        sending = _Sending(self._client, self._site, task)
        most = share(items, sum(self._client.nthreads().values()), self._most)
        blocks, finished = Blocks(items, most=most), distributed.as_completed()
        lost = 0
        try:
            while not blocks.are_over:
                sending.fill(blocks, finished)
                future = next(finished)
                block = sending.sent.pop(future)
                if future.cancelled():
                    lost += 1
                    self._check_lost(lost)
                    blocks.lost(block)
                    continue
                done = _result(future)
                lost = 0
                blocks.done(block[0], done.results, done.seconds)
                yield from blocks.ready()
        finally:
            if self._is_connected():
                self._client.cancel(list(sending.sent))

    def _connected(self, distributed: Any, stack: ExitStack) -> Any:
        """Return a client."""
        if self._number:
            # Threads would share one interpreter; limits on memory would end workers, not trials.
            started = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=self._number,
                    threads_per_worker=1,
                    memory_limit=0,
                    # Any free port: the usual one may be taken, by another run too.
                    dashboard_address="127.0.0.1:0",
                    silence_logs="CRITICAL",
                )
            )
            return stack.enter_context(distributed.Client(started))
        if self._queue is not None:
            return stack.enter_context(distributed.Client(stack.enter_context(self._queue.start())))
        where = (
            {"scheduler_file": self._scheduler_file}
            if self._scheduler_file
            else {"address": self._scheduler}
        )
        try:
            return stack.enter_context(distributed.Client(timeout=_SECONDS_TO_CONNECT, **where))
        except (OSError, ValueError) as err:
            raise UsageError(
                "cluster must have a scheduler of Dask that answers, got"
                f" {type(err).__name__}: {err} (--cluster"
                f" {self._scheduler or self._scheduler_file}); start `dask scheduler` first"
            ) from err

    def _wait_for_a_worker(self) -> None:
        seconds = _SECONDS_TO_CONNECT if self._queue is None else self._queue.wait
        try:
            self._client.wait_for_workers(1, timeout=seconds)
        except TimeoutError as err:
            where, advice = (
                (self._scheduler or self._scheduler_file, "start `dask worker` first")
                if self._queue is None
                else (f"of jobs of {self._queue.system}", "ask it about them, or set 'wait' higher")
            )
            raise UsageError(
                f"cluster must have a worker, got none within {seconds} seconds (--cluster"
                f" {where}); {advice}"
            ) from err

    def _is_connected(self) -> bool:
        return self._client is not None and self._client.status == "running"

    def _check_lost(self, lost: int) -> None:
        """Raise SelfCheckError where it makes no sense to send a lost block again."""
        if not self._is_connected() or lost > _MOST_LOST:
            raise SelfCheckError(
                "cluster must stay reachable until all work is done, got a scheduler that has lost"
                f" {lost} blocks or is gone (--cluster); start it and its workers again, and give"
                " --resume: what is done is kept"
            )


class _Sending:
    """What was sent to the workers and is not back yet."""

    def __init__(self, client: Any, site: Site, task: Task[Any, Any]) -> None:
        self.sent: dict[Any, Block] = {}
        self._client, self._site, self._task = client, site, pickle.dumps(task)
        # A task of its own, not data that was scattered: Dask makes it again on a new worker.
        self._recipe = client.submit(bytes, site.recipe, pure=False)

    def fill(self, blocks: Blocks, finished: Any) -> None:
        """Send blocks until every worker has one more than it works on."""
        threads = max(1, sum(self._client.nthreads().values()))
        while len(self.sent) < _SENT_AHEAD * threads:
            block = blocks.next(_MOST_WAITING * threads)
            if block is None:
                return
            site = self._site
            future = self._client.submit(
                do_block, site.workplace, self._recipe, site.key, self._task, block[1], pure=False
            )
            self.sent[future] = block
            finished.add(future)


def _result(future: Any) -> Any:
    """Return what a worker made.

    Raises:
        CimrobustError: It made nothing; says why.
    """
    try:
        return future.result()
    except CimrobustError:
        raise
    except Exception as err:
        if type(err).__name__ == "KilledWorker":
            raise SelfCheckError(
                f"workers must live until a block is done, got one that ended several: {err}"
                " (--cluster); give every worker more memory, or start fewer on a machine"
            ) from err
        raise SelfCheckError(
            f"worker must end a block, got {type(err).__name__}: {err} (--cluster); install the"
            " same version of cimrobust on all workers"
        ) from err
