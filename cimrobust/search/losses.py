"""What the gradient members climb.

Smooth stand-ins for the number of wrong decisions, and for the error of a regression.

Every loss maps the logits of a decision to one *term* (a margin, a likelihood, an error), and a
term to a loss; the search maximises the mean loss. Margins are positive where the decision is
correct, so losses fall with them. Where a loss saturates, terms are measured in units of a *scale*
taken from the terms of the pass before, so that no loss needs a temperature in the units of the
network's outputs.

Shapes: logits [decisions, classes] (of a regression [values, 1]), labels int64 (targets float32)
[decisions], terms and losses [decisions].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int64, Real
from torch import Tensor
from torch.nn import functional

_SMALLEST_SCALE = 1e-12


@runtime_checkable
class Loss(Protocol):
    """A loss to maximise."""

    @property
    def name(self) -> str:
        """Short name."""

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Real[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return what the loss of each decision is a function of, [decisions]."""

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return the scale that the terms of all decisions, detached, give for the next pass."""

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return the loss of each decision, [decisions]."""


def median_scale(terms: Float[Tensor, "decisions"]) -> float:
    """Return the median magnitude of the terms that are finite and not 0, else 1."""
    sizes = terms.abs()
    sizes = sizes[torch.isfinite(sizes) & (sizes > 0)]
    return max(float(sizes.median()), _SMALLEST_SCALE) if sizes.numel() else 1.0


def margins(
    logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"]
) -> Float[Tensor, "decisions"]:
    """Return the logit of the label minus the best other one, [decisions].

    Positive where the decision is correct.

    The label is taken out of the maximum with -infinity. (With 0 in its place, as in published
    code, the loss stands still wherever all wrong logits are negative.)
    """
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def smooth_accuracy_of(margin: Float[Tensor, "decisions"], temperature: float = 0.25) -> float:
    """Return the mean of ``sigmoid(margin / (temperature * median |margin|))``.

    Accuracy with soft edges, for breaking ties. Margins that are no number count as wrong.
    """
    finite = torch.nan_to_num(margin, nan=-1.0)
    return float(torch.sigmoid(finite / (temperature * median_scale(finite))).double().mean())


@dataclass(frozen=True)
class SmoothAccuracy:
    """``sigmoid(-margin / (T * median |margin|))``.

    Decisions far on either side count no more, as in the accuracy itself.
    """

    temperature: float = 0.25
    name: str = "smooth_accuracy"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return the margins."""
        return margins(logits, labels)

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return the median margin."""
        return median_scale(terms)

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return the smoothed error."""
        return torch.sigmoid(-terms / (self.temperature * scale))


@dataclass(frozen=True)
class CrossEntropy:
    """``-log softmax(logits)[label]``.

    Saturates where decisions are safe, never where they are wrong.
    """

    name: str = "cross_entropy"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return the cross-entropies."""
        return functional.cross_entropy(logits, labels, reduction="none")

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return 1."""
        return 1.0

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return the cross-entropy."""
        return terms


@dataclass(frozen=True)
class MarginRatio:
    """Difference-of-logits ratio: minus margin over the distance from the best to the third logit.

    Free of shift and scale; needs 3 classes.

    References:
        Croce, Hein, "Reliable evaluation of adversarial robustness", ICML 2020, arXiv 2003.01690,
        equation 6.
    """

    name: str = "dlr"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return margins over distances."""
        best = logits.topk(3, dim=1).values
        return margins(logits, labels) / (best[:, 0] - best[:, 2] + _SMALLEST_SCALE)

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return 1."""
        return 1.0

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return minus the ratio."""
        return -terms


@dataclass(frozen=True)
class Collapse:
    """Every decision becomes one class.

    ``sigmoid((logit[target] - logit[label]) / (T * median))``.
    """

    target: int
    temperature: float = 0.25
    name: str = "class_collapse"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return the margin over the target: logit of the label minus logit of the target.

        0 for decisions whose label is the target.
        """
        return logits.gather(1, labels[:, None])[:, 0] - logits[:, self.target]

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return the median margin over the target."""
        return median_scale(terms)

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return the smoothed share of decisions beyond their label."""
        return torch.sigmoid(-terms / (self.temperature * scale))


@dataclass(frozen=True)
class PairCollapse:
    """Every decision becomes `target`, and those labelled so become `other`.

    ``min((logit[goal] - logit[label]) / median, reach)``.

    Linear in the margin, unlike `Collapse`: where all decisions have become the target, those
    labelled so must keep pulling.
    """

    target: int
    other: int
    reach: float = 0.2
    name: str = "pair_collapse"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return the margin over the goal: logit of the label minus logit of the goal."""
        goals = torch.where(labels == self.target, self.other, self.target)
        return (logits.gather(1, labels[:, None]) - logits.gather(1, goals[:, None]))[:, 0]

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return the median margin over the goal."""
        return median_scale(terms)

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return minus the margins, cut off at the reach."""
        return torch.clamp(-terms / scale, max=self.reach)


@dataclass(frozen=True)
class Hinge:
    """``min(-margin / median |margin|, reach)``.

    Only decisions that are correct, or wrong by less than the reach, count, each by its margin.
    """

    reach: float = 0.0
    name: str = "margin_hinge"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Int64[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return the margins."""
        return margins(logits, labels)

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return the median margin."""
        return median_scale(terms)

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return minus the margins, cut off at the reach."""
        return torch.clamp(-terms / scale, max=self.reach)


@dataclass(frozen=True)
class RegressionError:
    """The error metric itself; for a maximum, a power mean that a gradient can follow."""

    metric: str = "rmse"
    name: str = "regression_error"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Float32[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return value minus target."""
        return logits[:, 0] - labels

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return a typical error; the largest one for a maximum."""
        if self.metric == "max_error":
            return max(float(torch.nan_to_num(terms).abs().max()), _SMALLEST_SCALE)
        return median_scale(terms)

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return the error a value, in units of the scale."""
        errors = terms.abs() / scale
        if self.metric == "mae":
            return errors
        return errors**8 if self.metric == "max_error" else errors**2


@dataclass(frozen=True)
class Shift:
    """All values of a regression move the same way: what collapse onto a class is to decisions."""

    direction: float
    name: str = "class_collapse"

    def terms(
        self, logits: Float[Tensor, "decisions classes"], labels: Float32[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        """Return value minus target."""
        return logits[:, 0] - labels

    def scale_of(self, terms: Float[Tensor, "decisions"]) -> float:
        """Return the median error."""
        return median_scale(terms)

    def loss(self, terms: Float[Tensor, "decisions"], scale: float) -> Float[Tensor, "decisions"]:
        """Return the signed error."""
        return self.direction * terms / scale
