"""When a run of trials may stop early, and what it may say then."""

from __future__ import annotations

from dataclasses import dataclass

from cimrobust.errors import UsageError
from cimrobust.montecarlo.anytime import Outcome, Target, needed_anytime, outcome


@dataclass(frozen=True)
class StopRule:
    """Stop at the first trial after which every target is met, or one is refuted.

    Attributes:
        targets: What is required of chips, at least one.
        higher_is_better: Direction of the metric.
    """

    targets: tuple[Target, ...]
    higher_is_better: bool

    @property
    def needed_trials(self) -> int:
        """Fewest trials after which all targets can be met."""
        return max(needed_anytime(target.rate, target.confidence) for target in self.targets)

    def check(self, max_trials: int) -> None:
        """Refuse a number of trials with which nothing can be passed.

        Raises:
            UsageError: Too few trials.
        """
        if max_trials < self.needed_trials:
            raise UsageError(
                f"trials must be at least {self.needed_trials} for a run that may stop early and"
                f" pass, got {max_trials} (options --trials, --stop-early); allow more, or leave"
                " out --stop-early: a fixed number needs fewer"
            )


class Watch:
    """Follows the trials of one run, in their order."""

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule
        self._num_trials = 0
        self._failures = [0] * len(rule.targets)

    @property
    def failures(self) -> tuple[int, ...]:
        """Trials so far that missed each target's score."""
        return tuple(self._failures)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What the trials so far say about each target."""
        return tuple(
            outcome(count, self._num_trials, target)
            for count, target in zip(self._failures, self._rule.targets, strict=True)
        )

    def stops_after(self, value: float) -> bool:
        """Count one more trial; tell whether the run stops after it."""
        self._num_trials += 1
        for index, target in enumerate(self._rule.targets):
            reached = (
                value >= target.score if self._rule.higher_is_better else value <= target.score
            )
            self._failures[index] += not reached
        said = self.outcomes
        return "refuted" in said or all(word == "met" for word in said)
