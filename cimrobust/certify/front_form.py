"""The steps of a network in the form that bounds take: samples of every tensor in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.available_memory import available_memory
from cimrobust.certify.recurrent_steps import RECURRENT
from cimrobust.certify.refusal import NotBoundedError
from cimrobust.certify.sample_layouts import Runner, SampleLayout, layouts_of
from cimrobust.certify.samples_in_front import samples_in_front, shape_made

if TYPE_CHECKING:
    from cimrobust.twin.ops.twin_step import Step
    from cimrobust.twin.to_torch import Twin

# Share of the free memory that tensors of three samples may take.
_MOST_MEMORY = 0.4
#: Inputs of a recurrent node that hold its first states.
_FIRST_STATES = (5, 6)


@dataclass(frozen=True)
class FrontForm:
    """Steps on tensors with their samples in front.

    Attributes:
        steps: In the order in which they run.
        reasons: Why a step has no bounds in this form, by output.
        layouts: Where the network itself has the samples of a tensor, if not in front.
        num_in_time: Steps that recurrent layers were written out to.
    """

    steps: tuple[Step, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, SampleLayout] = field(default_factory=dict)
    num_in_time: int = 0


@torch.no_grad()
def front_form(
    twin: Twin,
    tensor: str,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
) -> FrontForm:
    """Return the steps in front of a tensor, with the samples of every tensor in front.

    Args:
        twin: The network in float64.
        tensor: What decisions are read from.
        inputs: Samples by graph input.
        constants: Graph inputs that are the same for all samples.

    Raises:
        NotBoundedError: The samples of the tensor itself are not in front.
    """
    steps = twin.steps_to(tensor)
    names = [name for step in steps for name in step.node.outputs if name]

    def run(wanted: Sequence[str], count: int) -> Mapping[str, Shaped[Tensor, "..."]]:
        some = {
            name: samples[torch.arange(count) % len(samples)] for name, samples in inputs.items()
        }
        fed = {name: array for name, array in some.items() if name in wanted}
        made = [name for name in wanted if name not in fed]
        return {**fed, **(twin({**some, **constants}, outputs=made) if made else {})}

    one = run([*inputs, *names], 1)
    if 3 * sum(8 * made.numel() for made in one.values()) > _MOST_MEMORY * available_memory():
        return FrontForm(steps)  # who compares samples refuses the network, with both numbers
    layouts = layouts_of(lambda wanted, count: one if count == 1 else run(wanted, count), [*one])
    has_cells = any(step.node.op in RECURRENT for step in steps)
    turned = {name: found for name, found in layouts.items() if found is None or not found.is_plain}
    if not turned and not has_cells:
        return FrontForm(steps)
    own = layouts.get(tensor)
    if own is not None and not own.is_plain:
        raise NotBoundedError(
            f"tensor '{tensor}', which decisions are read from, must have its samples along the"
            f" first axis, got shape {list(own.shape)} of one sample"
        )
    stored = {**twin.constants(), **twin.weights, **constants}
    ranks = {name: value.dim() for name, value in stored.items()}
    made = samples_in_front(steps, layouts, ranks, _zeros(steps, stored, inputs, run))
    return FrontForm(
        tuple(made.steps),
        made.reasons,
        {name: found for name, found in turned.items() if found is not None},
        made.num_in_time,
    )


def _zeros(
    steps: Sequence[Step],
    stored: Mapping[str, Shaped[Tensor, "..."]],
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    run: Runner,
) -> frozenset[str]:
    """Return the first states of recurrent nodes that are zero, whatever the samples hold."""
    asked = {
        step.node.inputs[place]
        for step in steps
        if step.node.op in RECURRENT
        for place in _FIRST_STATES
        if step.node.has(place)
    }
    by_shapes = asked & shape_made(steps, inputs.keys())
    found = {name: stored[name] for name in asked & stored.keys()}
    if by_shapes:
        found |= run(sorted(by_shapes), 2)
    return frozenset(name for name, value in found.items() if not bool(torch.any(value != 0)))
