"""What a replay says about one claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from cimrobust.errors import CimrobustError, UsageError
from cimrobust.input_file import printable


@dataclass(frozen=True)
class ReplayCheck:
    """One claim, derived again.

    Attributes:
        id: Name of the claim.
        held: Whether it holds; None: not checked.
        detail: What was compared, or what is missing.
    """

    id: str
    held: bool | None
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class WorkersFailedError(UsageError):
    """Workers that the reviewer named cannot do the work; that says nothing about a claim."""


def guarded(name: str, body: Callable[[], list[ReplayCheck]]) -> list[ReplayCheck]:
    """Run one group of checks; a missing or corrupt file breaks the claim, not the replay.

    Raises:
        WorkersFailedError: The reviewer's own workers failed.
    """
    try:
        return body()
    except WorkersFailedError:
        raise
    except CimrobustError as err:
        return [ReplayCheck(name, False, str(err))]
    except Exception as err:  # hostile evidence: what cannot be derived from it proves nothing
        return [
            ReplayCheck(
                name, False, f"cannot be derived: {printable(err)[:200]} ({type(err).__name__})"
            )
        ]
