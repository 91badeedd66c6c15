"""Operators that exporters write out, seen as the ones that they stand for.

Layer normalisation, and small powers.

Bounds of ``c / sqrt(mean(c^2) + epsilon)`` piece by piece know nothing of the two c being the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node
from cimrobust.twin.ops.twin_step import Step


def recognised(
    steps: Sequence[Step], constants: Mapping[str, Shaped[Tensor, "..."]], tensor: str
) -> list[Step]:
    """Return the steps with written-out operators replaced.

    Steps that `tensor` then does not depend on are left out.

    Args:
        steps: In the order in which they run.
        constants: What constants alone decide.
        tensor: What is wanted in the end.
    """
    makers = {name: step.node for step in steps for name in step.node.outputs if name}
    found = _Finder(makers, constants)
    made = [part for step in steps for part in found.norm(step) or found.power(step) or [step]]
    return _needed(made, tensor)


def _needed(steps: Sequence[Step], tensor: str) -> list[Step]:
    wanted, kept = {tensor}, []
    for step in reversed(steps):
        if wanted.intersection(step.node.outputs):
            wanted.update(step.node.inputs)
            kept.append(step)
    return kept[::-1]


@dataclass(frozen=True)
class _Finder:
    """Looks at how tensors are made.

    Attributes:
        makers: The node that makes each tensor.
        constants: What constants alone decide.
    """

    makers: Mapping[str, Node]
    constants: Mapping[str, Shaped[Tensor, "..."]]

    def norm(self, step: Step) -> list[Step] | None:
        """Return the normalisation that a quotient is the end of, None if it is none."""
        pair = self._quotient(step.node)
        variance = self._sum_with_number(pair[1]) if pair is not None else None
        if pair is None or variance is None:
            return None
        moved, (mean, epsilon) = pair[0], variance
        squares = self._mean_of(mean)
        if squares is None or self._square_of(squares) != moved:
            return None
        source = self._centred(moved)
        node = replace(
            step.node,
            op="RMSNormalization" if source is None else "LayerNormalization",
            attributes={"axis": -1, "epsilon": epsilon},
            inputs=(source or moved,),
        )
        return [Step(_kernel(epsilon, is_centred=source is not None), (), (), node)]

    def power(self, step: Step) -> list[Step] | None:
        """Return a square or a cube as products, None if a step is none."""
        node = step.node
        is_power = node.op == "Pow" and len(node.inputs) > 1
        exponent = self._number(node.inputs[1]) if is_power else None
        if exponent not in (2.0, 3.0):
            return None
        base = node.inputs[0]
        names = (
            [node.outputs[0]]
            if exponent == 2.0
            else [f"{node.outputs[0]}, squared", node.outputs[0]]
        )
        lefts = [base, *names[:-1]]
        products = [
            replace(node, op="Mul", inputs=(left, base), outputs=(name,))
            for left, name in zip(lefts, names, strict=True)
        ]
        return [Step(torch.mul, (), (), product) for product in products]

    def _quotient(self, node: Node) -> tuple[str, str] | None:
        """Return what is divided by a root, and what the root is of."""
        if node.op == "Div":
            return self._over_root(node.inputs[0], node.inputs[1])
        if node.op != "Mul":
            return None
        for top, other in (node.inputs, node.inputs[::-1]):
            maker = self.makers.get(other)
            if maker is not None and maker.op == "Reciprocal":
                return self._over_root(top, maker.inputs[0])
            if maker is not None and maker.op == "Div" and self._number(maker.inputs[0]) == 1.0:
                return self._over_root(top, maker.inputs[1])
        return None

    def _over_root(self, top: str, root: str) -> tuple[str, str] | None:
        maker = self.makers.get(root)
        return (top, maker.inputs[0]) if maker is not None and maker.op == "Sqrt" else None

    def _sum_with_number(self, name: str) -> tuple[str, float] | None:
        maker = self.makers.get(name)
        if maker is None or maker.op != "Add":
            return None
        for one, other in (maker.inputs, maker.inputs[::-1]):
            value = self._number(other)
            if value is not None and value > 0.0:
                return one, value
        return None

    def _mean_of(self, name: str) -> str | None:
        """Return what a tensor is the mean of over the last axis, which stays."""
        maker = self.makers.get(name)
        if maker is None or maker.op != "ReduceMean" or maker.get("keepdims", 1) != 1:
            return None
        given = (
            self.constants.get(maker.inputs[1])
            if len(maker.inputs) > 1 and maker.inputs[1]
            else None
        )
        axes = maker.get("axes") if given is None else given.tolist()
        return maker.inputs[0] if axes is not None and list(axes) == [-1] else None

    def _square_of(self, name: str) -> str | None:
        maker = self.makers.get(name)
        if maker is None:
            return None
        is_power = maker.op == "Pow" and self._number(maker.inputs[1]) == 2.0
        is_product = maker.op == "Mul" and maker.inputs[0] == maker.inputs[1]
        return maker.inputs[0] if is_power or is_product else None

    def _centred(self, name: str) -> str | None:
        """Return what a tensor is without its mean over the last axis."""
        maker = self.makers.get(name)
        if maker is None or maker.op != "Sub":
            return None
        return maker.inputs[0] if self._mean_of(maker.inputs[1]) == maker.inputs[0] else None

    def _number(self, name: str) -> float | None:
        value = self.constants.get(name)
        return float(value) if value is not None and value.numel() == 1 else None


def _kernel(epsilon: float, *, is_centred: bool) -> Kernel:
    def run(x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions inputs"]:
        moved = x - x.mean(-1, keepdim=True) if is_centred else x
        return moved * torch.rsqrt((moved * moved).mean(-1, keepdim=True) + epsilon)

    return run
