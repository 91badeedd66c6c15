"""What a replay says about one claim."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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
