"""The torch twin.

An ONNX model as a differentiable torch module, functional in the weights that are stored in
devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import torch
from onnx import inliner, shape_inference
from torch import Tensor

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.views import MOVING_OPS, TYPE_OPS
from cimrobust.onnx_io.walk import read_names
from cimrobust.twin.ops import converter_catalogue  # noqa: F401  (registers the converters)
from cimrobust.twin.ops.converter_registry import CannotConvertError, Settings, Value
from cimrobust.twin.ops.outside import OutsideNode
from cimrobust.twin.ops.program import Plan, Program, Scope, Step, TwinRunError, execute, to_tensor

__all__ = ["Twin", "TwinRunError", "TwinUnavailableError", "to_torch"]


class TwinUnavailableError(CimrobustError):
    """The model has no torch form; `nodes` lists every node without a converter."""

    exit_code = 4

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        super().__init__(
            f"every node must have a torch form, got none for {'; '.join(nodes)}; gradient-free"
            " methods do not need it"
        )


class Twin(torch.nn.Module):
    """An ONNX graph in torch.

    Every floating-point tensor has the twin's own type, float32 unless `.double()` or `.half()`
    changed it, whatever the model says; moves
    with `.to(device)`. Shape values stay on the CPU.

    Attributes:
        inputs: Names of the graph inputs, initializers not included.
        outputs: Names of the graph outputs.
        weight_names: Names of the mapped weights.
        outside: Nodes that onnxruntime runs; what they say of their gradients grows as gradients
            are taken.
    """

    def __init__(
        self,
        program: Program,
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        weight_names: Sequence[str],
        settings: Settings,
        outside: Sequence[OutsideNode] = (),
    ) -> None:
        super().__init__()
        self.outside = tuple(outside)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.weight_names = tuple(weight_names)
        self._program = program
        self._settings = settings
        # A tensor of its own that `.double()` and `.to()` change with the rest: it says what the
        # twin works in.
        self.register_buffer("_probe", torch.zeros(()))
        self._buffer_of: dict[str, str] = {}
        self._fixed: dict[str, Tensor] = {}
        self._constant_names = frozenset(program.constants)
        for index, (name, tensor) in enumerate(program.constants.items()):
            if tensor.dtype == torch.int64 and name not in self.weight_names:
                self._fixed[name] = tensor
            else:
                self._buffer_of[name] = f"_constant_{index}"
                self.register_buffer(f"_constant_{index}", tensor)
        # The buffers hold the constants now, perhaps in another type or place later on.
        program.constants = {}
        varying = [
            program.slots[name]
            for name in (*self.inputs, *self.weight_names)
            if name in program.slots
        ]
        self._foldable = program.foldable(varying)
        self._template: (
            tuple[tuple[torch.dtype, torch.device], list[Any], frozenset[int]] | None
        ) = None

    @property
    def weights(self) -> dict[str, Tensor]:
        """Nominal values of the mapped weights, detached, in the initializers' own shapes."""
        return {name: getattr(self, self._buffer_of[name]).detach() for name in self.weight_names}

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Names of all tensors that `forward` can return."""
        return tuple(self._program.slots)

    @property
    def straight_through(self) -> bool:
        """Whether Round, Floor, Ceil, Sign and casts to small integers pass gradients through."""
        return self._settings.straight_through

    @straight_through.setter
    def straight_through(self, value: bool) -> None:
        self._settings.straight_through = value

    @property
    def softened(self) -> bool:
        """Whether rounding and quantisers are left out and saturated activations leak gradients.

        Another, smoother network.
        """
        return self._settings.softened

    @softened.setter
    def softened(self, value: bool) -> None:
        self._settings.softened = value

    def source_of(self, name: str) -> tuple[str, tuple[str, ...]] | None:
        """Return operator and input names of the node that makes a tensor.

        Return None for inputs and constants.

        Lets a search step back over an ArgMax whose result is the decision.
        """
        for step in self._program.steps:
            if name in step.node.outputs:
                return step.node.op, step.node.inputs
        return None

    def steps_to(self, tensor: str) -> tuple[Step, ...]:
        """Return the steps that a tensor depends on, in the order in which they run.

        Steps that constants alone decide are left out.
        """
        _values, filled = self._ready()
        return tuple(
            step for step, _dead in self._program.plan((self._program.slots[tensor],), filled).steps
        )

    def constants(self) -> dict[str, Tensor]:
        """Return all values that constants alone decide, by name, in the twin's type.

        The mapped weights are not among them.
        """
        values, _filled = self._ready()
        return {
            name: values[slot]
            for name, slot in self._program.slots.items()
            if name not in self.weight_names and isinstance(values[slot], Tensor)
        }

    def _apply(self, fn: Any, recurse: bool = True) -> Twin:
        self._template = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As in torch."""
        self._template = None
        return super().load_state_dict(*args, **kwargs)

    def _ready(self) -> tuple[list[Any], frozenset[int]]:
        """Return the list of values with all constants in place, and the slots filled.

        What follows from constants alone is included.
        """
        probe: Tensor = self._probe  # type: ignore[assignment]
        key = (probe.dtype, probe.device)
        if self._template is not None and self._template[0] == key:
            return self._template[1], self._template[2]
        self._settings.dtype, self._settings.device = key
        program = self._program
        values: list[Any] = [None] * program.num_slots
        for name, tensor in self._fixed.items():
            values[program.slots[name]] = tensor
        for name, buffer in self._buffer_of.items():
            values[program.slots[name]] = getattr(self, buffer)
        with torch.no_grad():
            steps = tuple((step, ()) for step in self._foldable)
            execute(Plan(steps, ()), values)
        filled = frozenset(slot for step in self._foldable for slot in step.outputs if slot)
        self._template = (key, values, filled)
        return values, filled

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        weights: Mapping[str, Tensor] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        """Run the graph.

        Only the nodes that the wanted outputs depend on run; intermediates are freed as soon as
        nothing needs them.

        Args:
            inputs: Graph inputs by name; floating-point ones are brought into the twin's type.
            weights: Mapped weights by initializer name, in the initializer's shape; those left out
                have their nominal value.
            outputs: Names of any tensors of the graph; the graph's outputs where None.

        Returns:
            The wanted tensors by name. Quantised tensors are floating-point tensors that hold
            integers.

        Raises:
            CimrobustError: A name is not known or an input is missing.
            TwinRunError: A node failed on these values.
        """
        values, filled = self._ready()
        values = list(values)
        slots = self._program.slots
        dtype = self._settings.dtype
        for name, tensor in inputs.items():
            if name in self.inputs:
                values[slots[name]] = _in_type(tensor, dtype)
            elif name not in self._constant_names:
                raise CimrobustError(f"input must be one of {', '.join(self.inputs)}, got {name!r}")
        for name, tensor in (weights or {}).items():
            if name not in self.weight_names:
                raise CimrobustError(
                    f"weight must be one of the twin's {len(self.weight_names)} mapped weights, got"
                    f" {name!r}"
                )
            values[slots[name]] = tensor if tensor.dtype == dtype else tensor.to(dtype)
        wanted = tuple(self.outputs if outputs is None else outputs)
        unknown = [name for name in wanted if name not in slots]
        if unknown:
            raise CimrobustError(
                f"output must name a tensor of the graph, got {', '.join(map(repr, unknown))}"
            )
        plan = self._program.plan(tuple(slots[name] for name in wanted), filled)
        self._check_fed(plan, values)
        return dict(zip(wanted, execute(plan, values), strict=True))

    def each(
        self,
        inputs: Mapping[str, Tensor],
        constants: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        outputs: Sequence[str],
    ) -> dict[str, Tensor]:
        """Run the graph on many sets of inputs, each as if it were alone.

        Args:
            inputs: Graph inputs by name, with one axis more in front, which counts the runs.
            constants: Graph inputs that all runs share.
            weights: As in `forward`.
            outputs: As in `forward`.

        Returns:
            The wanted tensors by name, runs first.

        Raises:
            TwinRunError: A node failed on these values, or what it computes depends on the values
                of a run.
        """

        def alone(feed: dict[str, Tensor]) -> dict[str, Tensor]:
            return self.forward({**feed, **constants}, weights, outputs)

        try:
            made: dict[str, Tensor] = torch.func.vmap(alone)(dict(inputs))
        except (RuntimeError, ValueError, TypeError) as error:
            raise TwinRunError(
                f"runs must have outputs of one shape to share a pass, got {error}"
            ) from error
        return made

    def _check_fed(self, plan: Plan, values: list[Any]) -> None:
        missing = [name for name in self.inputs if values[self._program.slots[name]] is None]
        if not missing:
            return
        read = {slot for step, _dead in plan.steps for slot in step.inputs} | set(plan.outputs)
        missing = [name for name in missing if self._program.slots[name] in read]
        if missing:
            raise CimrobustError(
                f"every input must be given, got none for {', '.join(map(repr, missing))}"
            )

    @contextmanager
    def surrogate_gradients(self) -> Iterator[None]:
        """Switch straight-through gradients on for a while."""
        before = self.straight_through
        self.straight_through = True
        try:
            yield
        finally:
            self.straight_through = before


def to_torch(
    model: onnx.ModelProto,
    *,
    weight_names: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
    outside: bool = False,
    forced: Mapping[str, str] | None = None,
) -> Twin:
    """Build the torch twin of a model.

    Args:
        model: Any ONNX model, opset 7 or newer, with all its data inside; nodes in any order.
        weight_names: Initializers (or outputs of Constant nodes) that are stored in devices. Each
            is one tensor of the twin, also where it is
            used more than once or reaches its layer through Reshape, Transpose and the like.
            Integer ones are held as floating-point tensors.
        outputs: Graph outputs wanted; nodes that none of them depends on need no torch form. None:
            all.
        outside: Nodes without a torch form run in onnxruntime, and their gradients are estimates;
            see `Twin.outside`.
        forced: Nodes that run there although they have a torch form, by name, with the reason.

    Returns:
        The twin, in evaluation mode.

    Raises:
        TwinUnavailableError: Nodes have no torch form; all of them are listed. With `outside`: so
            have all nodes that read mapped weights.
        CimrobustError: A weight name is not an initializer.
    """
    model = _inlined(model)
    if outputs is not None:
        model = _reduced(model, outputs)
    graph = model.graph
    settings = Settings()
    weights = frozenset(weight_names)
    scope = Scope(
        opsets={
            "" if entry.domain == "ai.onnx" else entry.domain: entry.version
            for entry in model.opset_import
        },
        types=_types(model),
        settings=settings,
        model=model,
        protected=weights,
        outside=[] if outside else None,
        forced=forced or {},
    )
    constants = _constants(graph, scope)
    inputs = [value.name for value in graph.input if value.name not in constants]
    program = Program(inputs, constants, graph.node, scope)
    if scope.outside and weights and not _reaches_torch(program, weights, scope.outside):
        scope.problems += [f"{node.name} ({node.op}): {node.reason}" for node in scope.outside]
    if scope.problems:
        raise TwinUnavailableError(scope.problems)
    unknown = sorted(weights - set(program.constants))
    if unknown:
        raise CimrobustError(
            "mapped weight must be an initializer of the model, got"
            f" {', '.join(map(repr, unknown))}"
        )
    for name in weights:
        if not program.constants[name].is_floating_point():
            program.constants[name] = program.constants[name].to(torch.float32)
    made = [value.name for value in graph.output]
    found = tuple(scope.outside or ())
    return Twin(
        program,
        inputs=inputs,
        outputs=made,
        weight_names=weight_names,
        settings=settings,
        outside=found,
    ).eval()


def _constants(graph: onnx.GraphProto, scope: Scope) -> dict[str, Tensor]:
    """Return the initializers; texts, which only nodes run outside can read, are left out."""
    read = {name for node in graph.node for name in read_names(node)} | {
        value.name for value in graph.output
    }
    constants: dict[str, Tensor] = {}
    for proto in graph.initializer:
        try:
            constants[proto.name] = to_tensor(proto)
        except CannotConvertError as error:
            if proto.name in read and scope.outside is None:
                scope.problems.append(str(error))
    return constants


def _reaches_torch(
    program: Program, weights: frozenset[str], outside: Sequence[OutsideNode]
) -> bool:
    """Return whether a node with a torch form computes with a mapped weight.

    There is then a gradient to start from.
    """
    names = {node.name for node in outside}
    moved = {program.slots[name] for name in weights if name in program.slots}
    for step in program.steps:
        if step.node.name in names or not moved.intersection(step.inputs):
            continue
        if step.node.op not in MOVING_OPS | TYPE_OPS:
            return True
        moved.update(step.outputs)
    return False


def _in_type(value: Value, dtype: torch.dtype) -> Value:
    """Return an input with floating-point values in the working type.

    Sequences are lists of tensors, empty optional values None.
    """
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype != dtype else value
    return None if value is None else [_in_type(part, dtype) for part in value]  # type: ignore[misc]


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without local functions."""
    return inliner.inline_local_functions(model) if model.functions else model


def _reduced(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return a copy with only the nodes that the outputs depend on; initializers all stay."""
    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    kept = [value for value in model.graph.output if value.name in outputs]
    wanted, needed = set(outputs), [False] * len(model.graph.node)
    makers = {
        name: index for index, node in enumerate(model.graph.node) for name in node.output if name
    }
    while wanted:
        index = makers.get(wanted.pop())
        if index is not None and not needed[index]:
            needed[index] = True
            wanted |= read_names(model.graph.node[index])
    del reduced.graph.output[:], reduced.graph.node[:]
    reduced.graph.output.extend(kept)
    reduced.graph.node.extend(
        node for node, stays in zip(model.graph.node, needed, strict=True) if stays
    )
    _drop_unread_text(reduced)
    return reduced


def _drop_unread_text(model: onnx.ModelProto) -> None:
    """Leave out initializers of text that no node reads, in place.

    Names of classes, which have no torch form.
    """
    read = {name for node in model.graph.node for name in read_names(node)}
    kept = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type != onnx.TensorProto.STRING or tensor.name in read
    ]
    if len(kept) < len(model.graph.initializer):
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Return the type of every tensor the model declares or shape inference finds.

    Inference that fails only costs knowledge.
    """
    light = _without_large_data(model)
    try:
        light = shape_inference.infer_shapes(
            light, check_type=False, strict_mode=False, data_prop=True
        )
    except (
        Exception
    ):  # It raises several unrelated types, and what it would have found is optional.
        light = model
    types = {
        value.name: value.type
        for value in (*light.graph.input, *light.graph.value_info, *light.graph.output)
    }
    for tensor in light.graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
    return types


def _without_large_data(model: onnx.ModelProto, limit: int = 1024) -> onnx.ModelProto:
    """Return a copy without the data of large initializers, which shape inference ignores."""
    copy = onnx.ModelProto()
    copy.opset_import.extend(model.opset_import)
    copy.ir_version = model.ir_version
    graph = copy.graph
    graph.name = model.graph.name or "graph"
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    graph.node.extend(model.graph.node)
    listed = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.int64)) <= limit:
            graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in listed:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return copy
