"""The interval bound over the tolerance box as a loss: what no chip of the box can fall below.

The rules are those of `certify`, run forwards in float32 with gradients and, for products, without
the radius of rounding; the proof itself is made by `certify` in float64 afterwards. The last
product is not bounded class by class: the margin between two classes is one product with the
difference of their weights (as in Zhang et al.,
"Towards Stable and Efficient Training of Verifiably Robust Neural Networks", ICLR 2020,
arXiv 1906.06316, where inputs deviate; Gowal et al., arXiv 1810.12715, is the training it goes back
to).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor
from torch.nn import functional

from cimrobust.certify.interval import Interval
from cimrobust.certify.rules.convolution import Convolution
from cimrobust.certify.rules.product import MatrixProduct, as_interval, halves, product_ends
from cimrobust.certify.tensor_kinds import ACTIVE

if TYPE_CHECKING:
    from cimrobust.certify.plan import Plan, PlannedStep
    from cimrobust.certify.rules.rule import Value
    from cimrobust.training.training_protocol import Step
    from cimrobust.training.weights_on_devices import Chip


def worst_loss(step: Step, size: float) -> Float[Tensor, ""]:
    """Return the loss of scores that are at least as bad as those of any chip.

    A bound of the loss over the box, if the labels alone are followed. Where a teacher has a say,
    its part is how far these scores are from its own, which bounds nothing.

    Args:
        step: The mini-batch.
        size: Size of the box as a share of the whole.

    Raises:
        ModelNotCoveredError: The network has operators without a bound; names them.
    """
    return _loss_of(step, *_bounded(step, size, {}))


def clean_and_worst_loss(step: Step, size: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss without deviation, and `worst_loss`.

    The product of the samples with the first weights, most of the work on a dense network, is made
    once for both. Arguments and errors as for `worst_loss`.
    """
    names = list(_even_products(step, step.network.plan))
    weights = {name: chip.nominal for name, chip in step.chips.items()}
    logits, products = step.network.logits_and_tensors(
        {**step.digital, **weights}, step.samples, names
    )
    return step.loss_of(logits), _loss_of(step, *_bounded(step, size, products))


def _loss_of(
    step: Step,
    low: Float[Tensor, "decisions classes"],
    high: Float[Tensor, "decisions classes"],
    margins: Float[Tensor, "decisions classes"] | None,
) -> Float[Tensor, ""]:
    """Return the loss of what `_bounded` found."""
    targets = step.samples.targets
    if margins is None:
        goal = targets.reshape(-1, 1)
        return step.objective.loss(
            torch.where((high - goal).abs() > (low - goal).abs(), high, low), targets
        )
    labels = step.objective.labels(targets, low.shape[1])
    # The worst score of every other class, that of the label being 0.
    worst = (-margins / step.objective.scale).scatter(1, labels[:, None], 0.0)
    if step.taught is None:
        return functional.cross_entropy(worst, labels)
    return step.loss_of(worst)


@torch.no_grad()
def proved_share(step: Step) -> float:
    """Return the share of decisions that the interval bound proves for every chip of the whole box.

    In float32, so no more than an estimate of what `certify` proves.
    """
    low, _high, margins = _bounded(step, 1.0, {})
    if margins is None:
        return 0.0
    labels = step.objective.labels(step.samples.targets, low.shape[1])
    own = functional.one_hot(labels, low.shape[1]).bool()
    # As many classes may be ahead of the label as the decision allows.
    smallest = margins.masked_fill(own, torch.inf).kthvalue(step.objective.k, dim=1).values
    return float((smallest > 0).double().mean())


def _bounded(
    step: Step, size: float, products: Mapping[str, Float[Tensor, "..."]]
) -> tuple[
    Float[Tensor, "decisions classes"],
    Float[Tensor, "decisions classes"],
    Float[Tensor, "decisions classes"] | None,
]:
    """Return the ends of all logits, and lower bounds of the margins.

    The margins are between the label and every class, [decisions, classes]; None for a regression.

    Args:
        step: The mini-batch.
        size: Size of the box as a share of the whole.
        products: Outputs of products without deviation, by name, as far as they are known.
    """
    plan = step.network.plan
    even = _even_products(step, plan)
    weights = {
        name: Interval(chip.nominal + size * chip.lo, chip.nominal + size * chip.hi)
        for name, chip in step.chips.items()
        if name not in even.values()
    }
    inputs = {
        name: Interval.point(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in step.samples.inputs.items()
    }
    known = {**step.digital, **step.samples.constants}
    values: dict[str, Value] = {**plan.constants, **known, **weights, **inputs}
    for planned in plan.steps:
        values[planned.output] = (
            _even_product(
                planned,
                values,
                step.chips[even[planned.output]],
                size,
                products.get(planned.output),
            )
            if planned.output in even
            else _value(planned, values)
        )
    scores = values[plan.tensor]
    assert isinstance(scores, Interval)
    logits = [step.network.readout.logits(end) for end in (scores.lo, scores.hi)]
    low, high = (
        step.network.counted(end, step.samples)
        for end in (torch.minimum(*logits), torch.maximum(*logits))
    )
    if step.objective.kind == "value":
        return low, high, None
    labels = step.objective.labels(step.samples.targets, low.shape[1])
    margins = _product_margins(step, plan, values, labels)
    return low, high, low.gather(1, labels[:, None]) - high if margins is None else margins


def _value(planned: PlannedStep, values: Mapping[str, Value]) -> Value:
    read = [values[name] if name else None for name in planned.node.inputs]
    if isinstance(planned.rule, MatrixProduct | Convolution):
        return planned.rule.ends(read)
    if planned.rule is not None and planned.node.op == "Relu":
        # Its rule widens the ends by rounding, also below zero, where no ReLU is; products of what
        # is not negative are bounded exactly, and in half the time.
        data = as_interval(read[0])
        return Interval(torch.relu(data.lo), torch.relu(data.hi))
    if planned.rule is not None:
        return planned.rule.forward(read)
    found: Shaped[Tensor, "..."] = planned.step.kernel(
        *[value.lo if isinstance(value, Interval) else value for value in read]
    )
    return found


def _even_products(step: Step, plan: Plan) -> dict[str, str]:
    """Return the stored weight of every product whose weights all deviate by the same, by output.

    Weights that are also read elsewhere are left out, and the last steps, which
    `_product_margins` looks into.
    """
    readers = Counter(name for planned in plan.steps for name in planned.node.inputs)
    found = {}
    for planned in plan.steps[:-2]:
        rule, names = planned.rule, planned.node.inputs
        chip = step.chips.get(names[1]) if len(names) > 1 else None
        if not isinstance(rule, MatrixProduct) or chip is None or rule.alpha != 1.0:
            continue
        if readers[names[1]] == 1 and chip.nominal.dim() == 2 and not chip.lo.dim():
            found[planned.output] = names[1]
    return found


def _even_product(
    planned: PlannedStep,
    values: Mapping[str, Value],
    chip: Chip,
    size: float,
    known: Float[Tensor, "*samples columns"] | None,
) -> Interval:
    """Return the ends of a product whose weights all deviate by the same.

    The weights at a corner of their box are W + a for one number a, so ``x (W + a)`` is ``x W`` and
    a times the sum of x: one product with all weights where `product_ends` makes two to four, and
    no copy of the weights for data that are known. Derived here.

    Args:
        planned: The product.
        values: What it reads.
        chip: Its weights.
        size: Size of the box as a share of the whole.
        known: What it gives without deviation; None: not known.
    """
    assert isinstance(planned.rule, MatrixProduct)
    names = planned.node.inputs
    data, weight, bias = planned.rule.parts(
        [values[names[0]], chip.nominal, *(values[name] if name else None for name in names[2:])]
    )
    nominal, above = weight.lo, size * chip.hi
    below = -above if chip.is_centred else size * chip.lo
    if data.is_point:
        # With its bias, unless that deviates as well.
        made = known if bias is None or bias.is_point else None
        middle, bias = (data.lo @ nominal, bias) if made is None else (made, None)
        lo, hi = (middle + moved for moved in _moved(data.lo, below, above, chip))
    elif data.is_nonnegative:
        middle, sums = data.lo @ nominal, data.lo.sum(-1, keepdim=True)
        width = data.hi - data.lo
        lo = middle + below * sums + width @ halves(nominal + below)[1]
        hi = middle + above * sums + width @ halves(nominal + above)[0]
    else:
        lo, hi = product_ends(torch.matmul, data, Interval(nominal + below, nominal + above))
    return Interval(lo, hi) if bias is None else Interval(lo + bias.lo, hi + bias.hi)


def _moved(
    data: Float[Tensor, "*samples rows"],
    below: Float[Tensor, ""],
    above: Float[Tensor, ""],
    chip: Chip,
) -> tuple[Float[Tensor, "*samples 1"], Float[Tensor, "*samples 1"]]:
    """Return how far known data move all their products down and up, weights deviating alike."""
    if chip.is_centred:
        most = above * data.abs().sum(-1, keepdim=True)
        return -most, most
    plus, minus = (half.sum(-1, keepdim=True) for half in halves(data))
    return below * plus + above * minus, above * plus + below * minus


def _product_margins(
    step: Step, plan: Plan, values: Mapping[str, Value], labels: Int64[Tensor, "decisions"]
) -> Float[Tensor, "decisions classes"] | None:
    """Return lower bounds of the margins [samples, classes] of a product, else None.

    The scores must be one product of data that are not negative, plus a known bias.

    Every weight is free, so for every x >= 0 the smallest margin has the weights of the label at
    their lower ends and the others at their upper ends, and for every element
    of x one of its two ends.
    """
    readout = step.network.readout
    bias, last = None, plan.steps[-1]
    if last.node.op == "Add" and len(plan.steps) > 1:
        names = [name for name in last.node.inputs if name != plan.steps[-2].output]
        bias = values[names[0]] if len(names) == 1 else None
        last = plan.steps[-2] if isinstance(bias, Tensor) else last
    if readout.kind != "classes" or not isinstance(last.rule, MatrixProduct) or last.kind != ACTIVE:
        return None
    data, weight, own = last.rule.parts(
        [values[name] if name else None for name in last.node.inputs]
    )
    if data.lo.dim() != 2 or not data.is_nonnegative:
        return None
    bias_of = (
        own.lo
        if own is not None
        else bias.reshape(-1)
        if isinstance(bias, Tensor)
        else torch.zeros_like(weight.lo[0])
    )
    lo, hi, shift = (
        (weight.lo, weight.hi, bias_of) if readout.sign > 0 else (-weight.hi, -weight.lo, -bias_of)
    )
    # d lo where d > 0 and d hi elsewhere is d hi - max(d, 0) (hi - lo). The differences d of two
    # classes' weights are the same for all samples of a label.
    present, index = torch.unique(labels, return_inverse=True)
    above = torch.relu(lo.T[present][:, None, :] - hi.T[None])
    over = ((data.hi - data.lo) @ above.flatten(0, 1).T).reshape(-1, *above.shape[:2])
    over = over[torch.arange(len(index), device=index.device), index]
    least = (data.hi @ lo).gather(1, labels[:, None]) - data.hi @ hi
    return least - over + shift[labels][:, None] - shift
