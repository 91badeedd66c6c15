"""What the gradient members climb.

Smooth stand-ins for the number of wrong decisions, and for the error of a regression.

Every loss maps the rows of a readout to one *spread* a decision (a margin, a likelihood, an error),
and a spread to a *damage*; the search
maximises the mean damage. Where a damage saturates, it is measured in units of a *scale* taken from
the spreads of the pass before, so
that no loss needs a temperature in the units of the network's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

_SMALLEST_SCALE = 1e-12


class Loss(Protocol):
    """A damage to maximise."""

    @property
    def name(self) -> str:
        """Short name."""

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return one value per decision, [decisions].

        The logits are [decisions, classes], the labels (or targets) [decisions].
        """

    def scale_of(self, spreads: Tensor) -> float:
        """Return the scale that the spreads of all decisions, detached, give for the next pass."""

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the damage a decision, [decisions]."""


def median_scale(spreads: Tensor) -> float:
    """Return the median magnitude of the finite margins that are not 0; 1 if there are none."""
    sizes = spreads.abs()
    sizes = sizes[torch.isfinite(sizes) & (sizes > 0)]
    return max(float(sizes.median()), _SMALLEST_SCALE) if sizes.numel() else 1.0


def margins(rows: Tensor, labels: Tensor) -> Tensor:
    """Return best wrong score minus score of the label, [decisions].

    Positive where the decision is wrong.

    The label is taken out of the maximum with -infinity. (With 0 in its place, as in published
    code, the loss stands still wherever all
    wrong scores are negative.)
    """
    own = rows.gather(1, labels[:, None])[:, 0]
    return rows.scatter(1, labels[:, None], -torch.inf).amax(dim=1) - own


def smooth_accuracy_of(spreads: Tensor, temperature: float = 0.25) -> float:
    """Return the mean of ``sigmoid(-margin / (temperature * median |margin|))``.

    Accuracy with soft edges, for breaking ties.
    """
    finite = torch.nan_to_num(spreads, nan=1.0)
    return float(torch.sigmoid(-finite / (temperature * median_scale(finite))).double().mean())


@dataclass(frozen=True)
class SmoothAccuracy:
    """``sigmoid(margin / (T * median |margin|))``.

    Decisions far on either side count no more, as in the accuracy itself.
    """

    temperature: float = 0.25
    name: str = "smooth_accuracy"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the margins."""
        return margins(rows, labels)

    def scale_of(self, spreads: Tensor) -> float:
        """Return the median margin."""
        return median_scale(spreads)

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the smoothed error."""
        return torch.sigmoid(spreads / (self.temperature * scale))


@dataclass(frozen=True)
class CrossEntropy:
    """``-log softmax(rows)[label]``.

    Saturates where decisions are safe, never where they are wrong.
    """

    name: str = "cross_entropy"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropies."""
        return functional.cross_entropy(rows, labels, reduction="none")

    def scale_of(self, spreads: Tensor) -> float:
        """Return 1."""
        return 1.0

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the cross-entropy."""
        return spreads


@dataclass(frozen=True)
class MarginRatio:
    """Difference-of-logits ratio: margin over the distance from the best to the third score.

    Free of shift and scale; needs 3 classes.

    References:
        Croce, Hein, "Reliable evaluation of adversarial robustness", ICML 2020, arXiv 2003.01690,
        equation 6.
    """

    name: str = "dlr"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the ratios."""
        best = rows.topk(3, dim=1).values
        return margins(rows, labels) / (best[:, 0] - best[:, 2] + _SMALLEST_SCALE)

    def scale_of(self, spreads: Tensor) -> float:
        """Return 1."""
        return 1.0

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the ratio."""
        return spreads


@dataclass(frozen=True)
class Collapse:
    """Every decision becomes one class: ``sigmoid((row[target] - row[label]) / (T * median))``."""

    target: int
    temperature: float = 0.25
    name: str = "class_collapse"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return score of the target minus score of the label.

        0 for decisions whose label is the target.
        """
        return rows[:, self.target] - rows.gather(1, labels[:, None])[:, 0]

    def scale_of(self, spreads: Tensor) -> float:
        """Return the median spread."""
        return median_scale(spreads)

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the smoothed share of decisions beyond their label."""
        return torch.sigmoid(spreads / (self.temperature * scale))


@dataclass(frozen=True)
class PairCollapse:
    """Every decision becomes `target`, and those labelled so become `other`.

    ``min((row[goal] - row[label]) / median, reach)``.

    Linear in the spread, unlike `Collapse`: where all decisions have become the target, those
    labelled so must keep pulling.
    """

    target: int
    other: int
    reach: float = 0.2
    name: str = "pair_collapse"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return score of the goal minus score of the label."""
        goals = torch.where(labels == self.target, self.other, self.target)
        return (rows.gather(1, goals[:, None]) - rows.gather(1, labels[:, None]))[:, 0]

    def scale_of(self, spreads: Tensor) -> float:
        """Return the median spread."""
        return median_scale(spreads)

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the spreads, cut off at the reach."""
        return torch.clamp(spreads / scale, max=self.reach)


@dataclass(frozen=True)
class Hinge:
    """``min(margin / median |margin|, reach)``.

    Only decisions that are right, or wrong by less than the reach, count, each by its margin.
    """

    reach: float = 0.0
    name: str = "margin_hinge"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return the margins."""
        return margins(rows, labels)

    def scale_of(self, spreads: Tensor) -> float:
        """Return the median margin."""
        return median_scale(spreads)

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the margins, cut off at the reach."""
        return torch.clamp(spreads / scale, max=self.reach)


@dataclass(frozen=True)
class RegressionError:
    """The error metric itself; for a maximum, a power mean that a gradient can follow."""

    metric: str = "rmse"
    name: str = "regression_error"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return value minus target."""
        return rows[:, 0] - labels

    def scale_of(self, spreads: Tensor) -> float:
        """Return a typical error; the largest one for a maximum."""
        if self.metric == "max_error":
            return max(float(torch.nan_to_num(spreads).abs().max()), _SMALLEST_SCALE)
        return median_scale(spreads)

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the error a value, in units of the scale."""
        errors = spreads.abs() / scale
        if self.metric == "mae":
            return errors
        return errors**8 if self.metric == "max_error" else errors**2


@dataclass(frozen=True)
class Shift:
    """All values of a regression move the same way: what collapse onto a class is to decisions."""

    direction: float
    name: str = "class_collapse"

    def spread(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Return value minus target."""
        return rows[:, 0] - labels

    def scale_of(self, spreads: Tensor) -> float:
        """Return the median error."""
        return median_scale(spreads)

    def damage(self, spreads: Tensor, scale: float) -> Tensor:
        """Return the signed error."""
        return self.direction * spreads / scale
