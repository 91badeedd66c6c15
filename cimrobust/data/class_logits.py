"""Logits of classes, one row a decision, and what infinities mean in them.

-infinity is a score like any other: that of a class which is masked out and never chosen. NaN and
+infinity are none, and a decision without any finite score has no decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Num

    from cimrobust.array_shapes import Bool, Float, Float64, Int64


def class_logits(
    output: Num[np.ndarray, "samples *outputs"], axis: int, *, lowest_wins: bool
) -> Float64[np.ndarray, "decisions classes"]:
    """Return the logits of an output whose classes lie along an axis.

    They are [decisions, classes] in float64, the highest best.
    """
    values = np.asarray(output, dtype=np.float64)
    logits = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    return -logits if lowest_wins else logits


def have_decision(
    logits: Float[np.ndarray, "decisions classes"],
) -> Bool[np.ndarray, "decisions"]:
    """Return which rows have a decision, bool [decisions]."""
    return np.asarray(np.isfinite(logits.max(axis=1)))  # NaN and +infinity come out of a maximum


def decisive_logits(
    logits: Float[np.ndarray, "decisions classes"],
    labels: Int64[np.ndarray, "decisions"],
    *,
    k: int = 1,
) -> Float[np.ndarray, "decisions classes"]:
    """Return logits whose first highest is the label's exactly if that is among the k highest.

    They are all finite where there is a decision.

    Scores of -infinity, and the k - 1 best of the other classes, are put below all others. A label
    whose score is -infinity is put lower still: it is never among the best.

    Args:
        logits: Scores, the highest best, float64 [decisions, classes].
        labels: The class of every decision, int64 [decisions].
        k: How many decisions there may be before the label.
    """
    own = labels[:, None]
    masked = np.isneginf(logits)
    if k > 1:
        others = logits.copy()
        np.put_along_axis(others, own, -np.inf, axis=1)
        np.put_along_axis(
            masked, np.argsort(-others, axis=1, kind="stable")[:, : k - 1], True, axis=1
        )
    elif not masked.any():
        return logits
    finite = np.isfinite(logits)
    low = np.where(finite, logits, np.inf).min(axis=1, keepdims=True)
    high = np.where(finite, logits, -np.inf).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # rows without a decision get none
        step = np.maximum(np.maximum(high - low, np.maximum(np.abs(low), np.abs(high))), 1.0)
        made = np.where(masked, low - step, logits)
        score = np.take_along_axis(logits, own, axis=1)
        np.put_along_axis(made, own, np.where(np.isneginf(score), low - 2.0 * step, score), axis=1)
    return np.where(have_decision(logits)[:, None], made, np.nan)
