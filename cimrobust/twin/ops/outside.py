"""Nodes without a torch form.

Onnxruntime runs them inside the twin, and their gradient is an estimate, see `outside_gradient`.
The bounds of `certify` never use such nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch import Tensor

from cimrobust.onnx_io.walk import op_name
from cimrobust.twin.ops.outside_gradient import Estimate
from cimrobust.twin.ops.outside_runner import Runner

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node


@dataclass
class OutsideNode:
    """A node that onnxruntime runs.

    Attributes:
        name: Name of the node.
        op: Its operator.
        reason: Why it has no torch form.
        used: How its gradients were estimated so far; empty until one was wanted.
    """

    name: str
    op: str
    reason: str
    used: set[str] = field(default_factory=set)

    @property
    def text(self) -> str:
        """The node in words."""
        return (
            f"'{self.name}' ({self.op}, {' and '.join(sorted(self.used)) or 'no gradient wanted'})"
        )


def outside_kernel(node: Node, alone: onnx.ModelProto, reason: str) -> tuple[Kernel, OutsideNode]:
    """Return a kernel that runs a node in onnxruntime, and what is known of the node.

    Args:
        node: The node as converters see it.
        alone: A model of this node alone, without inputs and outputs; what stays constant for it is
            an initializer.
        reason: Why it has no torch form.
    """
    described = OutsideNode(node.name, op_name(alone.graph.node[0]), reason)
    runner = Runner(node, alone)

    def run(*values: Any) -> Any:
        if torch.is_grad_enabled() and any(
            isinstance(value, Tensor) and value.requires_grad for value in values
        ):
            made = _Outside.apply(runner, described, *values)  # type: ignore[no-untyped-call]
        else:
            made = tuple(runner.to_torch(array) for array in runner(values))
        return made if len(made) > 1 else made[0]

    return run, described


class _Outside(torch.autograd.Function):
    """Value of the node by onnxruntime, gradient by estimate."""

    @staticmethod
    def forward(ctx: Any, runner: Runner, described: OutsideNode, *values: Any) -> tuple[Any, ...]:
        ctx.runner, ctx.described = runner, described
        ctx.values = [value.detach() if isinstance(value, Tensor) else value for value in values]
        made = tuple(runner.to_torch(array) for array in runner(ctx.values))
        whole = [
            value for value in made if isinstance(value, Tensor) and not value.is_floating_point()
        ]
        ctx.mark_non_differentiable(*whole)
        ctx.set_materialize_grads(False)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        wanted = {place: grad for place, grad in enumerate(grads) if grad is not None}
        found: list[Any] = [None, None]
        for index in range(len(ctx.values)):
            needed = ctx.needs_input_grad[index + 2] and wanted
            found.append(
                Estimate(ctx.runner, ctx.values, index, wanted, ctx.described.used).gradient()
                if needed
                else None
            )
        return tuple(found)
