"""The steps of a network as what each does with one sample, for all samples of a batch.

Rules read tensors that have their samples in front. Networks that put time or heads first, that
count samples and heads along one axis, that are written for one sample a run or that have no axis
of samples at all have other tensors. One sample's tensors are the same whatever the batch is, so
every tensor is taken as those of the samples, with one axis more in front that counts them, and
every kernel as mapped over that axis. Nothing is approximated: a rule bounds what the deployed
network computes in a run of one sample.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.certify.recurrent_steps import RECURRENT, unrolled
from cimrobust.certify.refusal import CannotBoundError, NotBoundedError
from cimrobust.certify.rules.rule_table import SHAPE_OPS
from cimrobust.certify.rules.several_images import OverImages
from cimrobust.certify.step_parts import made_of, part_name

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node
    from cimrobust.twin.ops.twin_step import Step

#: Operators on images, whose rules want samples and channels as the first two axes.
_ON_IMAGES = frozenset({"Conv", "GlobalMaxPool", "MaxPool"})
#: Operators whose rules are tighter on rows of samples than on the positions of one.
_ON_ROWS = frozenset({"Gemm", "MatMul"})
#: Operators with an attribute that names an axis.
_WITH_AXIS = frozenset({"LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax"})
_OF_MAXIMA = frozenset({"ReduceMax", "ReduceMin"})
#: Operators that stretch their inputs to one shape.
_STRETCHING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "MatMul"}
    | {"Max", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Where", "Xor"}
)
#: Inputs of a recurrent node that hold its first states.
_FIRST_STATES = (5, 6)
#: Of Softmax before opset 13.
_FLATTENING, _SOFTMAX_AXIS_BEFORE = 13, 1


@dataclass(frozen=True)
class Lifted:
    """Steps on the tensors of all samples of a batch.

    Attributes:
        steps: In the order in which they run.
        reasons: Why some have no bound, by output.
        num_in_time: Those that recurrent nodes were written out to.
    """

    steps: list[Step]
    reasons: dict[str, str]
    num_in_time: int


@dataclass(frozen=True)
class EachSample:
    """What one run of a network takes.

    Attributes:
        inputs: Graph inputs that hold samples, for one run: with an axis of samples of length 1 in
            front, or without any.
        constants: Graph inputs that are the same for all samples.
        has_axis: They have that axis, and so have scores.
    """

    inputs: Mapping[str, Shaped[Tensor, "..."]]
    constants: Mapping[str, Shaped[Tensor, "..."]]
    has_axis: bool

    def steps(
        self, steps: Sequence[Step], values: Mapping[str, Shaped[Tensor, "..."]], tensor: str
    ) -> Lifted:
        """Return steps that make of every sample what the given ones make of one.

        They read graph inputs with samples in front, and make `tensor` with samples in front.

        Args:
            steps: In the order in which they run.
            values: Constants and weights, by name.
            tensor: What is wanted in the end.

        Raises:
            NotBoundedError: A step cannot be taken sample by sample.
        """
        run = _Run({**values, **self.constants, **self.inputs}, set(self.inputs))
        made = [part for step in steps for part in run.lifted(step)]
        if not self.has_axis:
            return Lifted(made, run.reasons, run.num_in_time)
        if run.shape(tensor)[:1] != (1,):
            raise NotBoundedError(
                f"tensor '{tensor}' must have one row a sample, got shape"
                f" {list(run.shape(tensor))} of one sample"
            )
        names = {name: _apart(name) for name in (*self.inputs, tensor)}
        node = steps[-1].node
        lifted = [
            *(made_of(node, "Unsqueeze", (name,), names[name], _with_axis) for name in self.inputs),
            *(_renamed(step, names) for step in made),
            made_of(node, "Squeeze", (names[tensor],), tensor, _without_axis),
        ]
        return Lifted(lifted, run.reasons, run.num_in_time)


def sample_tensors(steps: Sequence[Step], inputs: Collection[str]) -> list[str]:
    """Return the names of what differs from sample to sample.

    Args:
        steps: In the order in which they run.
        inputs: Graph inputs that hold samples.
    """
    found = dict.fromkeys(inputs)
    for step in steps:
        if step.node.op not in SHAPE_OPS and any(
            name in found for name in (*step.node.inputs, *step.node.captures)
        ):
            found |= dict.fromkeys(name for name in step.node.outputs if name)
    return [name for name in found if name not in inputs]


@dataclass
class _Run:
    """A run of one sample.

    Attributes:
        values: Tensors made so far, by name.
        apart: Names of those that differ from sample to sample.
        reasons: Why steps have no bound, by output.
        num_in_time: Steps that recurrent nodes were written out to.
    """

    values: dict[str, Any]
    apart: set[str]
    reasons: dict[str, str] = field(default_factory=dict)
    num_in_time: int = 0

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self.values[name].shape)

    def lifted(self, step: Step) -> list[Step]:
        """Run a step, and return what does the same for every sample of a batch."""
        node = step.node
        names = (*node.inputs, *node.captures)
        read = [self.values[name] if name else None for name in names]
        self._run(step, read)
        flags = [name in self.apart for name in names]
        if not any(flags):
            return [step]
        if node.op in SHAPE_OPS:
            return [replace(step, kernel=_of_first(step.kernel))]
        if any(flags[len(node.inputs) :]):
            raise NotBoundedError(
                f"node {node.name} ({node.op}) must not have a body that reads what differs from"
                " sample to sample"
            )
        self.apart.update(name for name in node.outputs if name)
        if node.op in _OF_MAXIMA and any(flags[1:]):
            raise NotBoundedError(f"node {node.name} ({node.op}) must have the same axes a sample")
        if node.op in RECURRENT:
            return self._in_time(step, flags)
        if node.op in _ON_IMAGES:
            return self._on_images(step, flags)
        if node.op in _ON_ROWS and not any(flags[1:]) and self._is_row(node):
            return self._of_samples(step)
        stretched, before = self._stretched(node, flags)
        kernel = _mapped(step.kernel, read, flags)
        return [*before, replace(step, kernel=kernel, node=self._node(stretched, read))]

    def _run(self, step: Step, read: list[Any]) -> None:
        node = step.node
        try:
            made = step.kernel(*read)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise NotBoundedError(
                f"node {node.name} ({node.op}) must run on one sample alone, got {error}"
            ) from error
        outputs = made if isinstance(made, tuple | list) else (made,)
        for name, value in zip(node.outputs, outputs, strict=False):
            if name and not isinstance(value, Tensor):
                raise NotBoundedError(
                    f"node {node.name} ({node.op}) must make tensors, got a {type(value).__name__}"
                )
            if name:
                self.values[name] = value

    def _on_images(self, step: Step, flags: list[bool]) -> list[Step]:
        """Return a step on images as one on the images of all samples."""
        node = step.node
        if any(flags[1:]):
            raise NotBoundedError(
                f"node {node.name} ({node.op}) must read the same weights for every sample"
            )
        if self.shape(node.inputs[0])[:1] != (1,):
            return [replace(step, kernel=OverImages(step.kernel))]
        return self._of_samples(step)

    def _in_time(self, step: Step, flags: list[bool]) -> list[Step]:
        """Return a recurrent step written out in time."""
        node = step.node
        axis = 0 if node.get("layout", 0) else 1
        shape = self.shape(node.inputs[0])
        states = [index for index in _FIRST_STATES if node.has(index)]
        at_zero = not any(
            flags[index] or bool((self.values[node.inputs[index]] != 0).any()) for index in states
        )
        data = part_name(node, "data of samples")
        made = {name: part_name(node, f"{name} of samples") for name in node.outputs if name}
        outputs = tuple(made.get(name, "") for name in node.outputs)
        inner = replace(node, inputs=(data, *node.inputs[1:]), outputs=outputs)
        try:
            others = set(range(1, len(flags))) - set(_FIRST_STATES)
            if shape[axis] != 1 or any(flags[index] for index in others):
                raise CannotBoundError("its samples do not lie along its batch axis")
            written = unrolled(replace(step, node=inner), shape[1 - axis], starts_at_zero=at_zero)
        except CannotBoundError as error:
            self.reasons[node.outputs[0] or next(iter(made))] = str(error)
            return [step]
        self.num_in_time += len(written)
        # Of all steps, [steps, directions, samples, hidden] or [samples, steps, directions,
        # hidden]; of the last one, [directions, samples, hidden] or [samples, directions, hidden].
        behind = [1 if axis == 0 else 3, *(1 if axis == 0 else 2 for _ in node.outputs[1:])]
        return [
            made_of(node, "Squeeze", (node.inputs[0],), data, _without(1 + axis)),
            *written,
            *(
                made_of(node, "Unsqueeze", (made[name],), name, _with(place))
                for name, place in zip(node.outputs, behind, strict=True)
                if name
            ),
        ]

    def _is_row(self, node: Node) -> bool:
        """Return whether a node reads and makes one row, or one matrix, a sample."""
        shapes = [self.shape(name) for name in (node.inputs[0], node.outputs[0])]
        return all(len(shape) > 1 and shape[0] == 1 for shape in shapes)

    def _of_samples(self, step: Step) -> list[Step]:
        """Return a step between tensors that have an axis of length 1 as one of all samples."""
        node = step.node
        inside, made = part_name(node, "of samples"), part_name(node, "made of samples")
        inner = replace(node, inputs=(inside, *node.inputs[1:]), outputs=(made, *node.outputs[1:]))
        return [
            made_of(node, "Squeeze", (node.inputs[0],), inside, _without_axis),
            replace(step, node=inner),
            made_of(node, "Unsqueeze", (made,), node.outputs[0], _with_axis),
        ]

    def _stretched(self, node: Node, flags: list[bool]) -> tuple[Node, list[Step]]:
        """Return a node whose inputs have as many axes as one another, and what gives them these.

        Axes that one sample's tensor lacks lie behind that of the samples, not in front of it.
        """
        if node.op not in _STRETCHING:
            return node, []
        ranks = [len(self.shape(name)) if name else 0 for name in node.inputs]
        if node.op == "MatMul" and min(ranks) < 2:
            return node, []
        names, before = list(node.inputs), []
        for index, (name, rank) in enumerate(zip(node.inputs, ranks, strict=True)):
            lacking = max(ranks) - rank
            if flags[index] and lacking:
                names[index] = part_name(node, f"input {index} with {max(ranks)} axes")
                before.append(
                    made_of(node, "Unsqueeze", (name,), names[index], _with_axes(lacking))
                )
        return replace(node, inputs=tuple(names)), before

    def _node(self, node: Node, read: list[Any]) -> Node:
        """Return a node that names its axes from the back, where nothing is put in front."""
        rank = read[0].dim() if isinstance(read[0], Tensor) else 0
        if node.op in _WITH_AXIS:
            flattens = node.op in ("LogSoftmax", "Softmax") and node.version < _FLATTENING
            axis = int(node.get("axis", _SOFTMAX_AXIS_BEFORE if flattens else -1))
            return replace(node, attributes={**node.attributes, "axis": axis % rank - rank})
        if node.op in _OF_MAXIMA:
            given = node.get("axes")
            if given is None and len(read) > 1 and read[1] is not None:
                given = read[1].reshape(-1).tolist()
            axes = range(rank) if given is None else given
            from_back = [int(axis) % rank - rank for axis in axes]
            return replace(
                node, attributes={**node.attributes, "axes": from_back}, inputs=node.inputs[:1]
            )
        return node


def _mapped(kernel: Kernel, read: list[Any], flags: list[bool]) -> Kernel:
    """Return a kernel that runs another on every sample.

    Args:
        kernel: The other.
        read: What it reads of one sample.
        flags: Which of that differ from sample to sample.
    """
    dims = tuple(0 if flag else None for flag in flags)

    def at_once(*values: Any) -> Any:
        return torch.vmap(_filled(kernel, values, read), in_dims=dims[: len(values)])(*values)

    def in_turn(*values: Any) -> Any:
        count = next(len(value) for value, flag in zip(values, flags, strict=False) if flag)
        run = _filled(kernel, values, read)
        made = [
            run(*(v[at] if flag else v for v, flag in zip(values, flags, strict=False)))
            for at in range(count)
        ]
        if isinstance(made[0], tuple | list):
            return tuple(torch.stack(one) for one in zip(*made, strict=True))
        return torch.stack(made)

    return at_once if _runs(at_once, read, flags) else in_turn


def _filled(kernel: Kernel, values: Sequence[Any], read: list[Any]) -> Kernel:
    """Return a kernel that is given what a rule leaves out: fixed inputs behind the first."""
    rest = read[len(values) :]
    return (lambda *given: kernel(*given, *rest)) if rest else kernel


def _runs(kernel: Kernel, read: list[Any], flags: list[bool]) -> bool:
    """Return whether a kernel runs on two samples at once."""
    twice = [
        torch.stack((value, value)) if flag else value
        for value, flag in zip(read, flags, strict=True)
    ]
    try:
        kernel(*twice)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False
    return True


def _of_first(kernel: Kernel) -> Kernel:
    return lambda tensor, *rest: kernel(tensor[0], *rest)


def _renamed(step: Step, names: Mapping[str, str]) -> Step:
    node = step.node
    return replace(
        step,
        node=replace(
            node,
            inputs=tuple(names.get(name, name) for name in node.inputs),
            outputs=tuple(names.get(name, name) for name in node.outputs),
            captures=tuple(names.get(name, name) for name in node.captures),
        ),
    )


def _apart(name: str) -> str:
    return f"{name}, of each sample"


def _with_axis(x: Shaped[Tensor, "samples ..."]) -> Shaped[Tensor, "samples 1 ..."]:
    return x.unsqueeze(1)


def _without_axis(x: Shaped[Tensor, "samples 1 ..."]) -> Shaped[Tensor, "samples ..."]:
    return x.flatten(0, 1)


def _with(axis: int) -> Kernel:
    return lambda x: x.unsqueeze(axis)


def _without(axis: int) -> Kernel:
    return lambda x: x.squeeze(axis)


def _with_axes(count: int) -> Kernel:
    def run(x: Shaped[Tensor, "samples ..."]) -> Shaped[Tensor, "..."]:
        return x.reshape(len(x), *(1,) * count, *x.shape[1:])

    return run
