"""Chips of a box that decide samples wrong, which no bound of that box can certify.

A bound that is sound fails on such samples after all its work. A few steps of a gradient find most
of them first: weights go to the corner of the box that the gradient of the smallest margin points
to, and again from there (I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing
adversarial examples", ICLR 2015, with weights in place of inputs). What is found decides about time
alone: a sample that no chip breaks goes to the bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.certify.decision_margins import Reading
    from cimrobust.certify.interval import Interval
    from cimrobust.twin.to_torch import Twin

#: Gradients that are followed for one sample.
_STEPS = 3

#: Label of a decision, and which of its sample it is.
_Decision: TypeAlias = tuple[Int64[Tensor, "1"], Int64[Tensor, "1"]]


def broken_samples(
    twin: Twin,
    reading: Reading,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    weights: Mapping[str, Interval],
    labels: Int64[Tensor, "decisions"],
    positions: Int64[Tensor, "decisions"],
    rows: Int64[Tensor, "decisions"],
) -> Bool[Tensor, "decisions"]:
    """Return which decisions a chip was found for that takes them wrong.

    Args:
        twin: The network in float64.
        reading: How decisions are read; not of a regression.
        inputs: Samples by graph input.
        constants: Graph inputs that are the same for all samples.
        weights: Box of every stored weight.
        labels: Labels of the decisions.
        positions: Which of the decisions of its sample each is.
        rows: Which of the samples each is of.
    """
    found = torch.zeros(len(labels), dtype=torch.bool)
    for sample in range(len(labels)):
        one = slice(sample, sample + 1)
        feed = {name: tensor[rows[one]] for name, tensor in inputs.items()}
        found[sample] = _breaks(
            twin, reading, {**feed, **constants}, weights, (labels[one], positions[one])
        )
    return found


def _breaks(
    twin: Twin,
    reading: Reading,
    feed: Mapping[str, Shaped[Tensor, "..."]],
    weights: Mapping[str, Interval],
    decision: _Decision,
) -> bool:
    """Return whether a chip was found that takes one decision wrong."""
    chip = {name: box.middle for name, box in weights.items()}
    for step in range(_STEPS + 1):
        leaves = {name: value.detach().requires_grad_() for name, value in chip.items()}
        with torch.enable_grad():
            lowest = _lowest_margins(twin, reading, feed, leaves, decision)
            # Where all others may be ahead, no decision is wrong.
            if len(lowest) > reading.most_ahead and float(lowest.detach().max()) <= 0.0:
                return True
            if step == _STEPS or not lowest.requires_grad:
                return False
            grads = torch.autograd.grad(lowest.sum(), list(leaves.values()), allow_unused=True)
        chip = {
            name: _corner(weights[name], chip[name], grad)
            for name, grad in zip(leaves, grads, strict=True)
        }
    return False


def _lowest_margins(
    twin: Twin,
    reading: Reading,
    feed: Mapping[str, Shaped[Tensor, "..."]],
    chip: Mapping[str, Float64[Tensor, "..."]],
    decision: _Decision,
) -> Float64[Tensor, "failing"]:
    """Return the smallest margins: the decision is wrong where none of them is positive."""
    scores = twin(feed, chip, outputs=[reading.tensor])[reading.tensor]
    label, position = decision
    form, offset = reading.forms(label, scores.shape, position)
    margins = (form * scores[None]).flatten(1).sum(1) + offset[:, 0]
    lowest: Float64[Tensor, "failing"] = margins.topk(
        min(reading.most_ahead + 1, len(margins)), largest=False
    ).values
    return lowest


def _corner(
    box: Interval, value: Float64[Tensor, "*shape"], grad: Float64[Tensor, "*shape"] | None
) -> Float64[Tensor, "*shape"]:
    """Return the corner of a box that lies downhill; where nothing slopes, the value itself."""
    if grad is None:
        return value
    return torch.where(grad > 0, box.lo, torch.where(grad < 0, box.hi, value))
