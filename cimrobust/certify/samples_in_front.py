"""The steps of a network with the samples of every tensor in front.

Every tensor is taken in the form that `SampleLayout.front` gives. An operator that moves elements,
or that is bounded by its kernel alone, runs on tensors turned back, and what it makes is turned to
the front again; both only move elements, so its bounds are those of before. An operator whose rule
looks at axes itself gets the axes that they are in front.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from cimrobust.certify.recurrent_steps import RECURRENT, unrolled
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rules.rule_table import MOVES, SHAPE_OPS
from cimrobust.certify.rules.smooth import SHAPES
from cimrobust.certify.sample_layouts import SampleLayout
from cimrobust.certify.step_parts import made_of, part_name
from cimrobust.twin.ops.twin_step import Step

#: Operators with one rule for every element, or with a rule that its kernel alone makes.
_BY_KERNEL = (
    frozenset(MOVES)
    | SHAPE_OPS
    | frozenset(SHAPES)
    | frozenset(
        {
            "Abs",
            "BatchNormalization",
            "Cast",
            "Clip",
            "Exp",
            "GlobalAveragePool",
            "HardSigmoid",
            "LeakyRelu",
            "Log",
            "Neg",
            "Reciprocal",
            "ReduceMean",
            "ReduceSum",
            "Relu",
            "Split",
            "Sqrt",
        }
    )
)
#: Operators on two tensors, element by element.
_OF_TWO = frozenset({"Add", "Div", "Max", "Min", "Mul", "Sub"})
_ELSEWHERE = "its samples do not lie along the first axis"
#: Oldest version of Softmax that normalises one axis alone.
_ONE_AXIS = 13


@dataclass
class Fronted:
    """What `samples_in_front` gives.

    Attributes:
        steps: Steps on tensors with their samples in front.
        reasons: Why a step has no bounds in this form, by output.
        num_in_time: Steps that recurrent layers were written out to.
    """

    steps: list[Step] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    num_in_time: int = 0


def samples_in_front(
    steps: Sequence[Step],
    layouts: Mapping[str, SampleLayout | None],
    ranks: Mapping[str, int],
    zeros: frozenset[str] = frozenset(),
) -> Fronted:
    """Return the steps of a network with the samples of every tensor in front.

    Args:
        steps: Steps of the network, as it computes.
        layouts: Layout of every tensor whose shape depends on the number of samples; None: it has
            no axis of samples.
        ranks: Number of axes of constants and stored weights.
        zeros: Tensors that are zero whatever the samples hold.
    """
    made = Fronted()
    for step in steps:
        names = [name for name in (*step.node.inputs, *step.node.outputs) if name in layouts]
        known = [layout for name in names if (layout := layouts[name]) is not None]
        output = step.node.outputs[0]
        if step.node.op in RECURRENT:
            try:
                in_time = unrolled(step, layouts, zeros)
                made.steps += in_time
                made.num_in_time += len(in_time)
            except CannotBoundError as err:
                made.steps.append(step)
                made.reasons[output] = str(err)
        elif len(known) < len(names):
            made.steps.append(step)
            made.reasons[output] = "its samples lie along no axis of a tensor"
        elif all(layout.is_plain for layout in known):
            made.steps.append(step)
        else:
            turn = _Turned(step, {name: layouts[name] for name in names}, ranks)  # type: ignore[misc]
            try:
                made.steps += turn.steps()
            except CannotBoundError as err:
                made.steps.append(turn.by_kernel())
                made.reasons[output] = str(err)
    return made


@dataclass(frozen=True)
class _Turned:
    """One step on tensors of which some do not have their samples in front.

    Attributes:
        step: The step.
        layouts: Of the tensors that it reads and makes, as far as they have samples.
        ranks: As for `samples_in_front`.
    """

    step: Step
    layouts: Mapping[str, SampleLayout]
    ranks: Mapping[str, int]

    def steps(self) -> list[Step]:
        """Return the steps on tensors with samples in front.

        Raises:
            CannotBoundError: The operator has no rule for tensors that lie so.
        """
        node = self.step.node
        if node.captures:
            raise CannotBoundError(_ELSEWHERE)
        if node.op in _OF_TWO:
            return self._of_two()
        if node.op in _BY_KERNEL:
            return [self.by_kernel()]
        if any(layout.is_last for layout in self.layouts.values()):
            raise CannotBoundError("its samples lie along the last axis")
        if node.op == "MatMul":
            return [self._product()]
        if node.op == "Gemm":
            return [self._matrix_product()]
        if node.op in ("Softmax", "LayerNormalization", "RMSNormalization"):
            return [self._along_axis()]
        raise CannotBoundError(_ELSEWHERE)

    def by_kernel(self) -> Step:
        """Return the step that turns tensors back, computes, and turns to the front."""
        kernel, node = self.step.kernel, self.step.node
        read = [self.layouts.get(name) for name in node.inputs]
        made = [self.layouts.get(name) for name in node.outputs]

        def run(*values: Any) -> Any:
            turned = [
                value if layout is None or value is None else layout.back(value)
                for value, layout in zip(values, read, strict=False)
            ]
            found = kernel(*turned, *values[len(read) :])
            if isinstance(found, tuple | list):
                return tuple(map(_to_front, found, made))
            return _to_front(found, made[0])

        return replace(self.step, kernel=run)

    def _of_two(self) -> list[Step]:
        """Return an operator on two tensors, both with samples in front and as many axes."""
        node = self.step.node
        goal = self.layouts.get(node.outputs[0])
        if goal is None or len(node.inputs) != 2 or goal.is_last:
            raise CannotBoundError(_ELSEWHERE)
        steps: list[Step] = []
        inputs: list[str] = []
        for place, name in enumerate(node.inputs):
            layout = self.layouts.get(name)
            if layout is not None:
                if not layout.same_place(goal):
                    raise CannotBoundError(_ELSEWHERE)
                inputs.append(name)
            elif self.ranks.get(name, len(goal.shape) + 1) > len(goal.shape):
                raise CannotBoundError(_ELSEWHERE)
            elif self.ranks[name] <= 1:
                inputs.append(name)
            else:
                turned = f"{part_name(node, f'operand {place}')}"
                steps.append(
                    made_of(node, "Transpose", (name,), turned, lambda x: _constant(x, goal))
                )
                inputs.append(turned)
        turned_node = replace(node, inputs=tuple(inputs))
        return [*steps, replace(self.step, node=turned_node)]

    def _product(self) -> Step:
        """Return a product of matrices: of data and weights, or of data and data."""
        node = self.step.node
        first, second = (self.layouts.get(name) for name in node.inputs)
        made = self.layouts.get(node.outputs[0])
        if first is None or made is None or not first.same_place(made):
            raise CannotBoundError(_ELSEWHERE)
        if second is None:
            return self.by_kernel()
        rank = len(first.shape)
        if not second.same_place(first) or rank < 3 or first.axis >= rank - 2:
            raise CannotBoundError(_ELSEWHERE)
        return self.by_kernel()

    def _matrix_product(self) -> Step:
        node = self.step.node
        first, made = self.layouts.get(node.inputs[0]), self.layouts.get(node.outputs[0])
        rest = [name for name in node.inputs[1:] if name in self.layouts]
        if first is None or made is None or rest or first.axis or made.axis:
            raise CannotBoundError(_ELSEWHERE)
        if len(node.inputs) > 2 and node.inputs[2] and self.ranks.get(node.inputs[2], 2) > 1:
            raise CannotBoundError(_ELSEWHERE)
        return self.by_kernel()

    def _along_axis(self) -> Step:
        """Return an operator that normalises along one axis, with that axis from the back."""
        node, layout = self.step.node, self.layouts.get(self.step.node.outputs[0])
        if layout is None or node.inputs[0] not in self.layouts:
            raise CannotBoundError(_ELSEWHERE)
        default = -1 if node.op != "Softmax" or node.version >= _ONE_AXIS else 1
        rank = len(layout.shape)
        axis = int(node.get("axis", default)) % rank
        if (node.op == "Softmax" and node.version < _ONE_AXIS and axis != rank - 1) or (
            axis == layout.axis
        ):
            raise CannotBoundError("it normalises over samples")
        # Samples leave the axes in front of their own one place further from the back.
        turned = axis - rank + (axis < layout.axis and layout.each == 1)
        step = self.by_kernel()
        attributes = {**node.attributes, "axis": turned}
        return replace(step, node=replace(step.node, attributes=attributes))


def _to_front(value: Shaped[Tensor, "..."], layout: SampleLayout | None) -> Shaped[Tensor, "..."]:
    return value if layout is None else layout.front(value)


def _constant(value: Shaped[Tensor, "..."], goal: SampleLayout) -> Shaped[Tensor, "..."]:
    """Return a constant as it meets tensors of a layout that is turned to the front.

    Raises:
        CannotBoundError: It has a value of its own for every sample.
    """
    padded = value.reshape(*(1,) * (len(goal.shape) - value.dim()), *value.shape)
    length = padded.shape[goal.axis]
    if length == 1:
        turned = padded.movedim(goal.axis, 0)
        return turned if goal.each == 1 else turned.unsqueeze(goal.axis + 1)
    if length != goal.each or goal.each == 1:
        raise CannotBoundError(_ELSEWHERE)
    return goal.front(padded)


def shape_made(steps: Sequence[Step], inputs: Collection[str]) -> frozenset[str]:
    """Return the tensors that only the sizes of inputs decide, not what they hold."""
    varying = set(inputs)
    made: set[str] = set()
    for step in steps:
        read = {name for name in (*step.node.inputs, *step.node.captures) if name}
        if step.node.op not in SHAPE_OPS and read & varying:
            varying.update(step.node.outputs)
        else:
            made.update(name for name in step.node.outputs if name)
    return frozenset(made)
