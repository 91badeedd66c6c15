"""Networks and profiles that have no certified bound, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cimrobust.errors import CimrobustError


@dataclass(frozen=True)
class Refusal:
    """Why there is no certified bound.

    Attributes:
        reason: One clause, for a reader.
        nodes: Nodes in the way as ``name (operator): why``; empty where the network is not the
            reason.
    """

    reason: str
    nodes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.reason


def lacks_memory(reason: str | None) -> bool:
    """Return whether a reason is that of one machine.

    Another, with more memory, may have a bound.
    """
    return reason is not None and (
        "GB of memory" in reason or "more memory than there is" in reason
    )


class NotBoundedError(CimrobustError):
    """A network has no bound; `refusal` says why."""

    exit_code = 4

    def __init__(self, reason: str, nodes: Sequence[str] = ()) -> None:
        self.refusal = Refusal(reason, tuple(nodes))
        super().__init__(reason)


class CannotBoundError(CimrobustError):
    """One node has no rule; the message is the reason."""
