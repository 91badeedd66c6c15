"""A policy to begin with: the form that a gate reads, with numbers that are there to be changed."""

from __future__ import annotations

import math

# Below a clean accuracy, or as a factor above a clean error: without deviation, on imperfect chips.
_LOSSES = (0.01, 0.05)
_GROWTHS = (1.02, 1.1)


def policy_draft(score: float, *, metric: str, higher_is_better: bool, samples: int) -> str:
    """Return a policy whose thresholds lie a little below what a network does without deviation.

    What is good enough cannot be told from files, so the text says that it is to be changed.

    Args:
        score: Clean score of the samples tried, a fraction or in the unit of the metric.
        metric: Its name.
        higher_is_better: Direction of the metric.
        samples: Samples that were tried.
    """
    if higher_is_better:
        clean, chip = (_below(score - loss) for loss in _LOSSES)
    else:
        clean, chip = (_above(score * growth) for growth in _GROWTHS)
    bound = "at least" if higher_is_better else "at most, since lower is better"
    return (
        "# Written by `cimrobust init`. Only you know what is good enough: change the numbers.\n"
        f"# Clean {metric} on the first {samples} samples: {score:.4g}. A score must be {bound}:\n"
        "[require]\n"
        f"clean_accuracy = {clean}  # without deviation\n"
        f"worst_found_accuracy = {chip}  # of the worst chip that a search finds\n"
        f"kpp = {{ k = 1, confidence = 0.95, accuracy = {chip} }}  # of 99 in 100 drawn chips\n"
        "[conditions]\n"
        f'metric = "{metric}"\n'
    )


def _below(value: float) -> float:
    """Return a fraction rounded down to two digits."""
    return max(0.0, math.floor(100 * value + 1e-9) / 100)


def _above(value: float) -> float:
    """Return an error rounded up to three digits."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.ceil(value / unit) * unit:.3g}")
