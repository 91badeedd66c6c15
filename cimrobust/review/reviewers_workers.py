"""Workers that help to replay a result: what they open, and what their failures mean.

Devices and labels come out of the result, so workers are sent it, and the names of the files that
the reviewer has beside it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.cluster.address import Address
from cimrobust.cluster.blocks import MOST_ITEMS
from cimrobust.cluster.executor import Executor, Item, Result, Task
from cimrobust.data.user_code import is_function
from cimrobust.errors import SelfCheckError, UsageError
from cimrobust.mapping.decided import stored_layers
from cimrobust.montecarlo.worker_opening import Loaded, Reopening, opened_here
from cimrobust.review.at_the_reviewer import AtHand, open_given
from cimrobust.review.evaluated import Evaluated
from cimrobust.review.replay_check import WorkersFailedError
from cimrobust.review.stated_samples import calibration_samples, stated_samples

if TYPE_CHECKING:
    from cimrobust.cluster.worker import Site
    from cimrobust.engine.subject import Subject
    from cimrobust.montecarlo.trial_identity import TrialIdentity
    from cimrobust.run import Run


@dataclass(frozen=True, kw_only=True)
class OpenedFromResult(Reopening):
    """From what a result states, and the files that the reviewer has beside it.

    Attributes:
        result: The certificate or sweep.
        at_hand: What the reviewer has beside it, by absolute paths that the worker must see too.
    """

    result: Evaluated
    at_hand: AtHand

    def load(self) -> Loaded:
        """Return what is read from result and files."""
        given = open_given(self.result, self.at_hand)
        assert given.network is not None
        network, scan = stored_layers(given.network, self.profile)
        dataset = stated_samples(self.result, given, network)
        calibrating = (
            calibration_samples(self.result, given, network) if self.profile.needs_kernel else None
        )
        return network, scan, dataset, calibrating


def recipe_of_result(
    result: Evaluated, at_hand: AtHand, subject: Subject, run: Run, identity: TrialIdentity
) -> OpenedFromResult:
    """Return how a worker opens what is open here.

    Args:
        result: The certificate or sweep.
        at_hand: What the reviewer has beside it.
        subject: What the result is about, opened.
        run: How to compute.
        identity: What its trials depend on.
    """
    return OpenedFromResult(
        result=result, at_hand=_absolute(at_hand), **opened_here(subject, run, identity)
    )


class ReviewersAddress(Address):
    """Where a reviewer lets claims be computed again.

    Workers that fail say nothing about a claim, and end the replay.
    """

    @contextmanager
    def open(self, site: Site, *, most: int = MOST_ITEMS) -> Iterator[Executor]:  # type: ignore[override]
        """Open the executor that works there; arguments as for `Address.open`.

        Raises:
            WorkersFailedError: They cannot be started.
        """
        with _failing_apart(), super().open(site, most=most) as executor:
            yield _Apart(executor)


@dataclass(frozen=True)
class _Apart:
    """An executor whose failures are told apart from those of what is computed."""

    executor: Executor

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        with _failing_apart():
            yield from self.executor.map_ordered(task, items)


@contextmanager
def _failing_apart() -> Iterator[None]:
    try:
        yield
    except (UsageError, SelfCheckError) as err:
        raise WorkersFailedError(str(err)) from err


def _absolute(at_hand: AtHand) -> AtHand:
    """Return what is at hand by names that are found from any folder."""

    def whole(path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    def text(name: str | None) -> str | None:
        is_path = name is not None and not is_function(name) and Path(name).exists()
        return str(Path(name).absolute()) if is_path and name is not None else name

    return replace(
        at_hand,
        model=whole(at_hand.model),
        labels_of=whole(at_hand.labels_of),
        transfer=whole(at_hand.transfer),
        policy=whole(at_hand.policy),
        data=text(at_hand.data),
        calibration=text(at_hand.calibration),
        device=text(at_hand.device),
    )
