"""What a member of the ensemble is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from cimrobust.search.candidate import Candidate, Earlier
    from cimrobust.search.pass_ledger import PassLedger
    from cimrobust.search.problem import Problem
    from cimrobust.search.scorer import Scorer
    from cimrobust.search.search_budget import Budget


@runtime_checkable
class MemberRun(Protocol):
    """Body of a member."""

    def __call__(
        self, problem: Problem, scorer: Scorer, budget: Budget, earlier: Earlier
    ) -> list[Candidate]:
        """Return the best pattern of every run, in the order they were made.

        Args:
            problem: What is searched.
            scorer: Scores patterns, and counts passes in its ledger.
            budget: What may be spent.
            earlier: What members before it found.
        """


@runtime_checkable
class Applies(Protocol):
    """Whether a member makes sense."""

    def __call__(self, problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
        """Return why it does not, or nothing."""


def always(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    """Return nothing: the member always makes sense."""
    return ""


def needs_classes(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    """Return why a member that needs decisions does not apply, or nothing."""
    return "a regression has no decisions" if problem.task.is_regression else ""


def needs_collapse(problem: Problem, ledger: PassLedger, earlier: Earlier) -> str:
    """Return why a member that leads below a plateau does not apply: it has to be reached first."""
    reason = needs_classes(problem, ledger, earlier)
    if reason or problem.has_collapsed(ledger.best):
        return reason
    return "no member has collapsed the decisions onto one class"


@dataclass(frozen=True)
class Member:
    """One way of searching.

    Attributes:
        name: Name in the certificate.
        run: Searches within the budget.
        applies: Tells whether it makes sense for a problem, and if not why.
        needs_gradient: Runs only where there is a twin.
    """

    name: str
    run: MemberRun
    applies: Applies = field(default=always)
    needs_gradient: bool = True
