"""Runs of the torch twin of a network whose batch axis is fixed, or that has none: many at once.

Each run is computed as if it were alone (torch.vmap), so that whatever ties a network to its
batch size (constant shapes, a range that a whole batch shares) stays as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from cimrobust.twin.ops.twin_step import TwinRunError

if TYPE_CHECKING:
    from cimrobust.engine.batches import Feeding
    from cimrobust.twin.twin_module import Twin


def run_outputs(
    twin: Twin,
    tensor: str,
    weights: Mapping[str, Float[Tensor, "..."]],
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    *,
    feeding: Feeding,
    taken: Int64[Tensor, "runs size"],
    at_once: int,
) -> Shaped[Tensor, "taken ..."]:
    """Return a tensor of the graph for the samples of several runs, samples first.

    Args:
        twin: The network.
        tensor: Name of the tensor.
        weights: Mapped weights by initializer.
        inputs: Samples by graph input, along the first axis.
        constants: What every run gets as it is.
        feeding: How many samples one run takes; ``fixed`` or ``none``.
        taken: Indices of the samples of every run, [runs, samples a run].
        at_once: Runs that share a pass, as `runs_at_once` found.

    Raises:
        TwinRunError: A node failed on these values.
    """
    parts = []
    for group in taken.split(at_once):  # type: ignore[no-untyped-call]
        chosen = group[:, 0] if feeding.mode == "none" else group
        feed = {name: array[chosen.to(array.device)] for name, array in inputs.items()}
        if len(group) == 1:
            alone = {name: array[0] for name, array in feed.items()}
            made = twin({**alone, **constants}, weights, [tensor])[tensor].unsqueeze(0)
        else:
            made = twin.each(feed, constants, weights, [tensor])[tensor]
        # Some networks drop an axis of one sample: what they give is the sample's own output.
        has_axis = feeding.mode == "fixed" and not (feeding.size == 1 and made.shape[1:2] != (1,))
        parts.append(made.flatten(0, 1) if has_axis else made)
    return torch.cat(parts)


def runs_at_once(
    twin: Twin,
    tensor: str,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    *,
    feeding: Feeding,
    most: int,
) -> int:
    """Return how many runs can share a pass.

    `most`, or 1 where the values of a run decide what is computed.

    Args:
        twin: The network.
        tensor: What is to be computed.
        inputs: Samples by graph input, along the first axis.
        constants: What every run gets as it is.
        feeding: How many samples one run takes.
        most: Runs whose activations are not too large together.
    """
    count = len(next(iter(inputs.values())))
    if feeding.mode == "free" or most < 2 or count < 2 * feeding.size:
        return 1
    taken = torch.arange(2 * feeding.size).reshape(2, -1)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Operators that torch has no batched form of run one after the other, with a warning
            # each.
            warnings.simplefilter("ignore", UserWarning)
            run_outputs(
                twin, tensor, {}, inputs, constants, feeding=feeding, taken=taken, at_once=2
            )
    except (TwinRunError, RuntimeError, ValueError):
        return 1
    return most
