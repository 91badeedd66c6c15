"""What a re-training gained, in a word and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.certificate.models.retrained import Retraining

# Percentage points, or share of an error, below which two searches of one effort are not told
# apart.
_NOTICEABLE = 0.01


@dataclass(frozen=True)
class Gain:
    """What a re-training gained.

    Attributes:
        word: In a word.
        sentence: In a sentence with its numbers.
        tone: How it is coloured: pass, fail or open.
    """

    word: str
    sentence: str
    tone: str


def gain_of(described: Retraining) -> Gain:
    """Compare the worst chips found before and after."""
    before, after, control = (
        described.before.worst_found,
        described.after.worst_found,
        described.control_outcome,
    )
    if before is None or after is None:
        return Gain("NOT COMPARED", "A certificate states no worst chip.", "open")
    better = after - before if described.metric.higher_is_better else before - after
    scale = 1.0 if described.metric.unit == "fraction" else abs(before) or 1.0
    sentence = (
        f"The worst chip found has {described.metric.name} {_shown(described, before)} before and"
        f" {_shown(described, after)} after, by searches of one effort."
    )
    if control is not None and control.worst_found is not None:
        sentence += f" Plain fine-tuning alone gives {_shown(described, control.worst_found)}."
    sentence += _clipping(described, before, after, scale)
    sentence += (
        f" Without deviation: {_shown(described, described.before.clean)} before,"
        f" {_shown(described, described.after.clean)} after."
    )
    if abs(better) < _NOTICEABLE * scale:
        return Gain("NO GAIN", sentence, "open")
    return Gain("GAIN", sentence, "pass") if better > 0 else Gain("LOSS", sentence, "fail")


def _clipping(described: Retraining, before: float, after: float, scale: float) -> str:
    """Return what plain fine-tuning on clipped weights reaches, and whether it is all."""
    found = [step.worst_found for step in described.steps if step.name == "plain, clipped"]
    if not found or found[0] is None:
        return ""
    text = f" Plain fine-tuning on clipped weights gives {_shown(described, found[0])}"
    sign = 1.0 if described.metric.higher_is_better else -1.0
    # A rounding error is no difference of a hundredth.
    noticeable = _NOTICEABLE * scale + 1e-9
    if sign * (after - found[0]) > noticeable:
        return f"{text}."
    helps = sign * (found[0] - before) > noticeable
    why = "what helps here is the clipping, not the method" if helps else "neither of them helps"
    return f"{text}, which is within one point of the method or above it: {why}."


def _shown(described: Retraining, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{100 * value:.2f} %" if described.metric.unit == "fraction" else f"{value:.4g}"
