"""What the offset of word-line levels adds to the torch form of a crossbar node.

Where activations are coded with an offset, level 0 is a negative activation, and every word line is
driven by the level of zero on top of what it has to say. The digital part subtracts what that makes
with the nominal weights; what it makes with deviations stays: every output moves by the sum of the
deviations of its column, times the activation that the level of zero stands for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cimrobust.onnx_io.crossbar_nodes import CrossbarNode

if TYPE_CHECKING:
    from cimrobust.engine.kernel_engine import KernelEngine
    from cimrobust.twin.ops.converter_registry import Kernel, Node
    from cimrobust.twin.ops.program import Wrapper


def offset_wrappers(engine: KernelEngine) -> dict[str, Wrapper]:
    """Return by name of a node what adds the offset of its levels to its kernel, see `to_torch`.

    Recurrent nodes, whose products are inside, keep theirs.
    """
    found: dict[str, Wrapper] = {}
    for step in engine.plan.steps:
        if isinstance(step, CrossbarNode) and len(step.operands) == 1:
            found[step.name] = partial(_wrapped, engine, step)
    return found


def with_offset(engine: KernelEngine, step: CrossbarNode, kernel: Kernel) -> Kernel:
    """Return the kernel of a node with the offset of its levels; itself where there is none."""
    if len(step.operands) != 1:
        return kernel
    operand = step.operands[0]
    coding = engine.arrays[f"{step.name}/{operand.role}"].input_coding
    if not coding.zero_point or coding.inverse_scale is None:
        return kernel
    activation = coding.zero_point / coding.inverse_scale
    leaves = [engine.placement.tensors[leaf].nominal.reshape(-1) for leaf in operand.leaves]
    nominal = torch.from_numpy(np.concatenate(leaves)[operand.index].astype(np.float32))

    def run(*inputs: Any) -> Any:
        weight = inputs[operand.slot]
        deviation = weight - nominal.to(weight.device, weight.dtype)
        if step.op == "Conv":  # Zeros beyond the border are sent as the level of zero too.
            sums = deviation.flatten(1).sum(dim=1)
            moved = activation * sums.reshape(-1, *(1,) * (weight.dim() - 2))
        else:
            given: list[Float[Tensor, "..."]] = [deviation, deviation]
            other = inputs[1 - operand.slot]
            given[1 - operand.slot] = torch.full_like(other, activation)
            moved = kernel(*given)
        return kernel(*inputs) + moved

    return run


def _wrapped(engine: KernelEngine, step: CrossbarNode, node: Node, kernel: Kernel) -> Kernel:
    return with_offset(engine, step, kernel)
