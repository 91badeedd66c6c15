"""How exactly a result must agree with what is derived again.

By its maker, and by the machine that it was made on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Protocol

from cimrobust import __version__
from cimrobust.review.differences import Exactness, differences, named
from cimrobust.review.machine_check import is_same_machine
from cimrobust.review.machine_stated import Made
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import Metric, Tool

#: Float32 sums in another order, and tables of quantiles made by another library.
RTOL = 1e-6
# Decisions on the edge that another processor may take the other way.
_EDGE_DECISIONS = 2
#: What no derivation can say again: it names the maker, its machine and its clock. Which keys of a
#: profile are defaults is what `profile_check` compares, because a certificate states them all.
NOT_DERIVED = frozenset(
    {
        "tool",
        "machine",
        "machine_reason",
        "timings",
        "seconds",
        "retraining",
        "retraining_reason",
        "schema_version",
        "defaults_used",
    }
)


class _Counted(Protocol):
    @property
    def samples(self) -> int:
        """Decisions that a score counts."""


class Scored(Made, Protocol):
    """A certificate or a sweep."""

    VERSION: ClassVar[str]

    @property
    def tool(self) -> Tool:
        """What made it."""

    @property
    def metric(self) -> Metric:
        """What a score is."""

    @property
    def clean(self) -> _Counted:
        """Scores without deviation."""


def compare(derived: object, claimed: object, result: Scored, *, place: str) -> Iterator[str]:
    """Yield the places at which a part of a result is not what was derived again.

    Both are compared as exactly as the maker of the result allows.

    Sentences, and what an older format does not have, are compared for results of this version
    alone; on another machine decisions on the edge may fall the other way.

    Args:
        derived: What was derived again.
        claimed: What the result says.
        result: The result.
        place: Path of both in it.
    """
    yield from differences(
        derived, claimed, place=place, exactness=_exactness(result, texts=_has_same_words(result))
    )


def other_sentences(derived: object, claimed: object, result: Scored, *, place: str) -> list[str]:
    """Return the places whose sentences differ where `compare` leaves them out.

    A forger may say that another version wrote them.
    """
    if _has_same_words(result):
        return []
    return list(
        differences(derived, claimed, place=place, exactness=_exactness(result, texts=True))
    )


def block_check(
    name: str, derived: object, claimed: object, result: Scored, block: str, *, fine: str
) -> ReplayCheck:
    """Compare one block of a result with what was derived again.

    Args:
        name: How it was derived, in front of the block in the name of the check.
        derived: What was derived again.
        claimed: What the result says.
        result: The result.
        block: Name of the block.
        fine: What to say of a block that agrees.
    """
    wrong = list(compare(derived, claimed, result, place=block))
    if wrong:
        return ReplayCheck(f"{name} {block}", False, f"other values follow at {named(wrong)}")
    others = other_sentences(derived, claimed, result, place=block)
    if others:
        said = (
            f"its numbers follow; sentences read otherwise here at {named(others)}, as another"
            " version or machine may word them: read them"
        )
        return ReplayCheck(f"{name} {block}", None, said)
    return ReplayCheck(f"{name} {block}", True, f"'{block}' {fine}")


def _has_same_words(result: Scored) -> bool:
    return (
        is_same_machine(result)
        and result.tool.version == __version__
        and result.stated_version == result.VERSION
    )


def _exactness(result: Scored, *, texts: bool) -> Exactness:
    slack = 0 if is_same_machine(result) else _EDGE_DECISIONS
    atol = slack / max(1, result.clean.samples) if result.metric.unit == "fraction" else 0.0
    # Which inputs are shown goes by their margins, whose last bits another machine may have
    # otherwise.
    skip = NOT_DERIVED if is_same_machine(result) else NOT_DERIVED | {"flipped"}
    return Exactness(texts=texts, rtol=RTOL, atol=atol, slack=slack, skip=skip)
