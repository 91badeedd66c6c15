"""Compiling a graph to a list of kernels, and running those that the wanted outputs need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.onnx_io.walk import op_name, outer_names, subgraphs
from cimrobust.twin.ops import converter_registry as registry
from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, Settings, Value
from cimrobust.twin.ops.outside import OutsideNode, outside_kernel
from cimrobust.twin.ops.torch_tensors import placed, to_tensor
from cimrobust.twin.ops.twin_step import Step, TwinRunError

#: Makes the kernel of a node of the one that it has.
Wrapper = Callable[[Node, Kernel], Kernel]
RANDOM = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
        "Dropout",
    }
)


@dataclass(frozen=True)
class Plan:
    """Steps that a set of outputs needs, each with the slots that are free after it."""

    steps: tuple[tuple[Step, tuple[int, ...]], ...]
    outputs: tuple[int, ...]


@dataclass
class Scope:
    """What compiling needs to know beyond the graph itself.

    Attributes:
        opsets: Opset version per domain.
        types: Type of every tensor that is known, by name.
        settings: Shared settings of the kernels.
        model: The whole model, for converters of other packages.
        protected: Names of tensors that must arrive as inputs of kernels (mapped weights).
        problems: Nodes without a converter, filled while compiling.
        outside: Nodes without a converter that onnxruntime runs, filled while compiling; None:
            every node must have a torch form.
        forced: Nodes that are run outside whatever their converters say, each with the reason.
        wrapped: By name of a node of the graph itself what makes its kernel of the one it has.
        readers: Who reads a tensor in the graph at hand, by name; see `Node.readers`.
    """

    opsets: Mapping[str, int]
    types: Mapping[str, onnx.TypeProto]
    settings: Settings
    model: onnx.ModelProto
    protected: frozenset[str] = frozenset()
    problems: list[str] = field(default_factory=list)
    outside: list[OutsideNode] | None = None
    forced: Mapping[str, str] = field(default_factory=dict)
    wrapped: Mapping[str, Wrapper] = field(default_factory=dict)
    readers: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Program:
    """A compiled graph. Slot 0 is always None: it stands for inputs that are left out."""

    def __init__(
        self,
        inputs: Sequence[str],
        constants: Mapping[str, Shaped[Tensor, "..."]],
        nodes: Sequence[onnx.NodeProto],
        scope: Scope,
    ) -> None:
        scope = replace(scope, readers=_readers(nodes))
        self.slots: dict[str, int] = {}
        self.inputs = tuple(self._slot(name) for name in inputs)
        self.constants: dict[str, Shaped[Tensor, "..."]] = dict(constants)
        for name in self.constants:
            self._slot(name)
        self.steps: list[Step] = []
        for node in nodes:
            self._add(node, scope)
        self._maker = {
            slot: index for index, step in enumerate(self.steps) for slot in step.outputs if slot
        }
        self._plans: dict[tuple[tuple[int, ...], frozenset[int]], Plan] = {}

    @property
    def num_slots(self) -> int:
        """Length of the list of values a run works on."""
        return len(self.slots) + 1

    def _slot(self, name: str) -> int:
        return self.slots.setdefault(name, len(self.slots) + 1) if name else 0

    def _add(self, proto: onnx.NodeProto, scope: Scope) -> None:
        outputs = tuple(self._slot(name) for name in proto.output)
        try:
            node = view(proto, scope)
        except CannotConvertError as error:
            scope.problems.append(
                f"{proto.name or next(iter(proto.output), '')} ({op_name(proto)}): {error}"
            )
            return
        kernel = convert(node, proto, scope)
        if kernel is not None:
            if node.name in scope.wrapped:
                kernel = scope.wrapped[node.name](node, kernel)
            inputs = tuple(self._slot(name) for name in (*node.inputs, *node.captures))
            self.steps.append(Step(kernel, inputs, outputs, node))

    def plan(self, outputs: tuple[int, ...], given: frozenset[int] = frozenset()) -> Plan:
        """Return the steps that some outputs need where the slots `given` are filled already."""
        known = self._plans.get((outputs, given))
        if known is not None:
            return known
        wanted = set(outputs)
        chosen: list[tuple[Step, tuple[int, ...]]] = []
        for step in reversed(self.steps):
            if not any(slot in wanted and slot not in given for slot in step.outputs if slot):
                continue
            dead = {slot for slot in (*step.inputs, *step.outputs) if slot} - wanted
            wanted.update(slot for slot in step.inputs if slot)
            chosen.append((step, tuple(dead)))
        plan = Plan(tuple(reversed(chosen)), outputs)
        self._plans[outputs, given] = plan
        return plan

    def foldable(self, varying: Iterable[int]) -> tuple[Step, ...]:
        """Return the steps that depend on none of the slots that change from run to run."""
        moving = set(varying)
        fixed: list[Step] = []
        for step in self.steps:
            if step.node.op in RANDOM or any(slot in moving for slot in step.inputs):
                moving.update(step.outputs)
            else:
                fixed.append(step)
        return tuple(fixed)


def execute(plan: Plan, values: list[Any]) -> list[Any]:
    """Run a plan on its list of values and return those of the outputs.

    Intermediates are dropped as soon as nothing needs them.
    """
    step: Step | None = None
    try:
        for step, dead in plan.steps:
            result = step.kernel(*[values[slot] for slot in step.inputs])
            outputs = step.outputs
            if type(result) is tuple:
                for slot, value in zip(outputs, result, strict=False):
                    values[slot] = value
                values[0] = None
            else:
                values[outputs[0]] = result
            for slot in dead:
                values[slot] = None
    except (
        RuntimeError,
        ValueError,
        IndexError,
        TypeError,
        KeyError,
        AttributeError,
        NotImplementedError,
    ) as error:
        assert step is not None
        shapes = ", ".join(_describe(values[slot]) for slot in step.inputs)
        raise TwinRunError(
            f"node {step.node.name!r} ({step.node.op}) must run in torch, got {error} (inputs"
            f" {shapes})",
            step.node.name,
        ) from error
    return [values[slot] for slot in plan.outputs]


def _describe(value: Any) -> str:
    return (
        f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        if isinstance(value, Tensor)
        else type(value).__name__
    )


class CompiledBody:
    """Body of If, Loop or Scan, or of a function, as a program of its own."""

    def __init__(self, graph: onnx.GraphProto, captures: tuple[str, ...], scope: Scope) -> None:
        names = [value.name for value in graph.input]
        constants = {tensor.name: to_tensor(tensor) for tensor in graph.initializer}
        types = {
            value.name: value.type
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.HasField("type")
        }
        types |= {
            tensor.name: onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            for tensor in graph.initializer
        }
        scope = replace(scope, types={**scope.types, **types}, wrapped={})
        captured = [name for name in captures if name not in names and name not in constants]
        self._captured = tuple(captures.index(name) for name in captured)
        self._program = Program([*names, *captured], constants, graph.node, scope)
        self._output_names = [value.name for value in graph.output]
        self._outputs = tuple(self._program.slots.get(name, 0) for name in self._output_names)
        self._settings = scope.settings
        self.num_inputs = len(names)
        self.num_outputs = len(self._outputs)

    def run(self, inputs: list[Value], captured: tuple[Value, ...]) -> list[Value]:
        """Execute the body; see `registry.Body`."""
        program = self._program
        values: list[Any] = [None] * program.num_slots
        for name, constant in program.constants.items():
            values[program.slots[name]] = placed(constant, self._settings)
        for slot, value in zip(
            program.inputs, [*inputs, *(captured[index] for index in self._captured)], strict=False
        ):
            values[slot] = value
        return execute(program.plan(self._outputs), values)


def view(proto: onnx.NodeProto, scope: Scope) -> Node:
    """Return a node as converters see it, its bodies compiled."""
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    captures = tuple(sorted({name for body in subgraphs(proto) for name in outer_names(body)}))
    attributes = {
        attribute.name: attribute_value(attribute, captures, scope) for attribute in proto.attribute
    }
    return Node(
        name=proto.name or (proto.output[0] if proto.output else ""),
        op=proto.op_type,
        domain=domain,
        version=scope.opsets.get(domain, 1),
        attributes=attributes,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        input_types=tuple(_element_type(scope.types.get(name)) for name in proto.input),
        captures=captures,
        settings=scope.settings,
        readers=frozenset().union(*(scope.readers.get(name, ()) for name in proto.output)),
    )


def _readers(nodes: Sequence[onnx.NodeProto]) -> dict[str, frozenset[str]]:
    """Return by whom every tensor is read; a body that reads it counts as its operator."""
    found: dict[str, set[str]] = {}
    for node in nodes:
        places = [(name, f"{node.op_type} {index}") for index, name in enumerate(node.input)]
        inside = {name for body in subgraphs(node) for name in outer_names(body)}
        for name, place in [*places, *((name, node.op_type) for name in inside)]:
            found.setdefault(name, set()).add(place)
    return {name: frozenset(places) for name, places in found.items()}


def _element_type(known: onnx.TypeProto | None) -> int | None:
    return (
        known.tensor_type.elem_type or None
        if known is not None and known.HasField("tensor_type")
        else None
    )


def attribute_value(attribute: onnx.AttributeProto, captures: tuple[str, ...], scope: Scope) -> Any:
    """Return an attribute as a Python value.

    Strings decoded, tensors as torch tensors, bodies compiled.
    """
    kind = onnx.AttributeProto
    if attribute.type == kind.GRAPH:
        return CompiledBody(attribute.g, captures, scope)
    if attribute.type == kind.TENSOR:
        return to_tensor(attribute.t)
    if attribute.type == kind.STRING:
        return attribute.s.decode("utf-8", "replace")
    if attribute.type == kind.STRINGS:
        return [value.decode("utf-8", "replace") for value in attribute.strings]
    value = onnx.helper.get_attribute_value(attribute)
    return list(value) if attribute.type in (kind.INTS, kind.FLOATS) else value


def convert(node: Node, proto: onnx.NodeProto, scope: Scope) -> Kernel | None:
    """Return the kernel of a node from the first source that has one.

    A node without any is run outside, or added to the problems.

    The word of the first source that knows the operator is final: what it does not cover, a later
    one might convert wrongly.
    """
    reason = scope.forced.get(node.name, "")
    for source in () if reason else SOURCES:
        try:
            kernel = source(node, proto, scope)
        except CannotConvertError as error:
            reason = f": {error}"
            break
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            # A node without an attribute it must have, or with one of another type; such files
            # exist.
            reason = (
                f": its attributes or inputs do not fit the operator ({type(error).__name__}:"
                f" {error})"
            )
            break
        if kernel is not None:
            return kernel
    if scope.outside is not None:
        kernel, outside = outside_kernel(
            node,
            _alone(node, proto, scope),
            reason.lstrip(": ") or "no converter knows its operator",
        )
        scope.outside.append(outside)
        return kernel
    scope.problems.append(f"{node.name} ({op_name(proto)}, opset {node.version}){reason}")
    return None


def _alone(node: Node, proto: onnx.NodeProto, scope: Scope) -> onnx.ModelProto:
    """Return a model of one node without inputs and outputs.

    Initializers of the model that are no mapped weights stay constants.
    """
    alone = onnx.ModelProto(ir_version=scope.model.ir_version)
    alone.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in scope.opsets.items()
    )
    alone.graph.name = "outside"
    alone.graph.node.append(proto)
    names = {name for name in (*node.inputs, *node.captures) if name} - scope.protected
    alone.graph.initializer.extend(
        tensor for tensor in scope.model.graph.initializer if tensor.name in names
    )
    return alone


def own_kernel(node: Node, proto: onnx.NodeProto, scope: Scope) -> Kernel | None:
    """Return the kernel of one of our own converters."""
    converter = registry.find(node.domain, node.op, node.version)
    return None if converter is None else converter(node)


Source = Callable[[Node, onnx.NodeProto, Scope], Kernel | None]
SOURCES: list[Source] = [own_kernel]
"""Where kernels come from, in order of preference; `converter_catalogue` adds to them."""
