"""How good the network is at the end of an epoch.

Clean, on drawn chips, and on the worst chip that a short search finds.

All of it in the twin, on the validation split, with the weights of the moment; the certificate's
search is another one, and longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cimrobust.search.climb import checkpoints
from cimrobust.search.losses import CrossEntropy, RegressionError, SmoothAccuracy, margins
from cimrobust.training.ascent import LogitsLoss, Unit, deviation_of, gradients, zero_unit
from cimrobust.training.interval_bound import proved_share

if TYPE_CHECKING:
    from cimrobust.training.training_loss import Objective
    from cimrobust.training.training_protocol import Step

_MOMENTUM = 0.75
_SHARE_IMPROVED = 0.75


@dataclass(frozen=True)
class Scored:
    """Scores of one set of weights on the validation split.

    Accuracy, or for a regression the error.

    Attributes:
        clean: Of the quantised weights.
        attacked: Of the worst chip that the short search found.
        kpp: First percentile of drawn chips, NaN where none were drawn.
        mean: Mean of drawn chips.
        proved: Share of decisions that the interval bound proves, NaN where nobody asked.
    """

    clean: float
    attacked: float
    kpp: float = float("nan")
    mean: float = float("nan")
    proved: float = float("nan")


def score_logits(
    objective: Objective,
    logits: Float[Tensor, "decisions classes"],
    targets: Shaped[Tensor, "samples ..."],
) -> float:
    """Return the accuracy of logits, or the error of values; what is not finite is wrong."""
    if objective.kind == "value":
        error = logits[:, 0] - targets.reshape(-1)
        size = error.abs().double()
        if objective.metric in ("mae", "max_error"):
            value = size.mean() if objective.metric == "mae" else size.max()
        else:
            value = (size**2).mean() if objective.metric == "mse" else (size**2).mean().sqrt()
        return float(torch.nan_to_num(value, nan=torch.inf))
    scores, labels = objective.decisive(logits, targets)
    right = scores.argmax(1) == labels
    return float((right & torch.isfinite(scores).all(1)).double().mean())


def is_better(objective: Objective, first: float, second: float) -> bool:
    """Tell whether the first score is better than the second."""
    return first < second if objective.kind == "value" else first > second


def is_within(
    objective: Objective,
    score: float,
    before: float,
    *,
    allowed: float,
    samples: int,
    errors: float,
) -> bool:
    """Tell whether a score is no worse than allowed, as far as so many samples can tell.

    Args:
        objective: Says whether scores are accuracies or errors.
        score: The score.
        before: What it is held against.
        allowed: Accuracy that may be lost; of an error the share by which it may grow, which is
            taken as it is.
        samples: Samples that both were measured on.
        errors: Standard errors by which more may be lost.
    """
    if objective.kind == "value":
        return score <= before * (1.0 + allowed)
    error = math.sqrt(max(allowed, 1.0 / samples) * (1.0 - allowed) / samples)
    return before - score <= allowed + errors * error


def clean_score(step: Step) -> float:
    """Score the weights of a step on its samples, without deviation."""
    with torch.no_grad():
        return score_logits(step.objective, step.fixed().logits(), step.samples.targets)


def validate(
    step: Step,
    *,
    passes: int,
    draws: Sequence[dict[str, Float[Tensor, "..."]]] = (),
    proves: bool = False,
) -> Scored:
    """Score the weights of a step on its samples.

    Args:
        step: The validation split as one mini-batch.
        passes: Forward and backward runs of the short search.
        draws: Deviations of drawn chips.
        proves: Bound all decisions as well.
    """
    fixed = step.fixed()
    clean = clean_score(fixed)
    with torch.no_grad():
        drawn = [
            score_logits(step.objective, fixed.logits(chip), step.samples.targets) for chip in draws
        ]
    attacked = worst_found(fixed, passes=passes)
    if is_better(step.objective, attacked, clean):
        attacked = clean
    proved = proved_share(fixed) if proves and step.objective.kind != "value" else float("nan")
    if not drawn:
        return Scored(clean, attacked, proved=proved)
    kpp = float(np.quantile(drawn, 0.99 if step.objective.kind == "value" else 0.01))
    return Scored(clean, attacked, kpp, float(np.mean(drawn)), proved)


def worst_found(fixed: Step, *, passes: int) -> float:
    """Return the worst score that a short search finds.

    Half of the passes on one loss, half on another, from zero; corners count as well.
    """
    if fixed.objective.kind == "value":
        losses: list[Callable[[Step], LogitsLoss]] = [_error_loss]
    else:
        losses = [_smooth_loss(0.5), _smooth_loss(0.2), _entropy_loss]
    found = [_climb(fixed, make, passes=max(passes // len(losses), 1)) for make in losses]
    return max(found) if fixed.objective.kind == "value" else min(found)


def _climb(fixed: Step, make: Callable[[Step], LogitsLoss], *, passes: int) -> float:
    """Return the worst score on the way of one run.

    The schedule of steps is that of `search.climb`.
    """
    objective, targets = fixed.objective, fixed.samples.targets
    loss = make(fixed)
    unit: Unit = zero_unit(fixed)
    before, length, improved, last, best = unit, 2.0, 0, 0, -np.inf
    schedule = checkpoints(passes)
    scores = []
    for index in range(passes):
        deviation = deviation_of(fixed, unit)
        kept: list[Float[Tensor, "decisions classes"]] = []

        def watched(
            logits: Float[Tensor, "decisions classes"],
            labels: Shaped[Tensor, "samples ..."],
            kept: list[Float[Tensor, "decisions classes"]] = kept,
        ) -> Float[Tensor, ""]:
            kept.append(logits.detach())
            return loss(logits, labels)

        found = gradients(fixed, deviation, watched)
        value = float(loss(kept[0], targets))
        scores.append(score_logits(objective, kept[0], targets))
        improved += value > best
        best = max(best, value)
        if index in schedule:
            if improved < _SHARE_IMPROVED * (index - last):
                length /= 2
            improved, last = 0, index
        share = 1.0 if index == 0 else _MOMENTUM
        ahead = {name: (unit[name] + length * found[name].sign()).clamp(-1, 1) for name in unit}
        unit, before = (
            {
                name: (
                    (
                        unit[name]
                        + share * (ahead[name] - unit[name])
                        + (1 - share) * (unit[name] - before[name])
                    ).clamp(-1, 1)
                )
                for name in unit
            },
            unit,
        )
    with torch.no_grad():
        corner = {name: part.sign() for name, part in unit.items()}
        scores.append(score_logits(objective, fixed.logits(deviation_of(fixed, corner)), targets))
    return max(scores) if objective.kind == "value" else min(scores)


def _smooth_loss(temperature: float) -> Callable[[Step], LogitsLoss]:
    loss = SmoothAccuracy(temperature)

    def make(fixed: Step) -> LogitsLoss:
        def mean_loss(
            logits: Float[Tensor, "decisions classes"], targets: Shaped[Tensor, "samples ..."]
        ) -> Float[Tensor, ""]:
            margin = margins(*fixed.objective.decisive(logits, targets))
            return loss.loss(margin, loss.scale_of(margin.detach())).mean()

        return mean_loss

    return make


def _entropy_loss(fixed: Step) -> LogitsLoss:
    return lambda logits, targets: (
        CrossEntropy().terms(*fixed.objective.decisive(logits, targets)).mean()
    )


def _error_loss(fixed: Step) -> LogitsLoss:
    loss = RegressionError(fixed.objective.metric)

    def mean_loss(
        logits: Float[Tensor, "decisions classes"], targets: Shaped[Tensor, "samples ..."]
    ) -> Float[Tensor, ""]:
        error = logits[:, 0] - targets.reshape(-1)
        return loss.loss(error, loss.scale_of(error.detach())).mean()

    return mean_loss
