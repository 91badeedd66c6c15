"""What is found of a largest safe tolerance, and what its statistical sense claims."""

from __future__ import annotations

from dataclasses import dataclass

#: Percent of drawn chips that may miss the requirement, and the confidence of the claim.
PERCENT, CONFIDENCE = 1.0, 0.95


@dataclass(frozen=True)
class SafeTolerance:
    """The largest tolerance at which a claim holds.

    Attributes:
        tolerance: Fraction of the full conductance range; None: see `reason`.
        fails_at: Smallest tolerance tried at which it does not hold; None: none of those tried.
        reason: Why there is none; empty where there is one.
        tried: Tolerances tried beside those of the sweep.
        trials: Fresh chips of the statistical claim; 0 for the others.
        confidence: Confidence of its test; None for the others.
    """

    tolerance: float | None
    fails_at: float | None
    reason: str
    tried: tuple[float, ...]
    trials: int = 0
    confidence: float | None = None
