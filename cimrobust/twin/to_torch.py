"""The torch twin.

An ONNX model as a differentiable torch module, functional in the weights that are stored in
devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.normalise import drop_dead_parts, drop_outputs, is_sorted
from cimrobust.onnx_io.shapes import infer_values
from cimrobust.onnx_io.views import MOVING_OPS, TYPE_OPS
from cimrobust.onnx_io.walk import all_graphs, all_nodes, read_names
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
        """Return operator and input names of the node that makes a tensor, None for inputs and constants.

        Lets a search step back over an ArgMax whose result is the decision.
        """
        for step in self._program.steps:
            if name in step.node.outputs:
                return step.node.op, step.node.inputs
        return None

    def steps_to(self, tensor: str) -> tuple[Step, ...]:
        """Return the steps that a tensor depends on and that constants alone do not decide, in the order in which they run."""
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
        """Return the list of values with all constants in place, what follows from constants alone included, and the slots filled."""
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
        model: A normalised network, opset 7 or newer, with all its data inside; see
            `cimrobust.onnx_io.normalise.normalised`.
        weight_names: Initializers that are stored in devices. Each is one tensor of the twin, also
            where it is used more than once or reaches its layer through Reshape, Transpose and the
            like. Integer ones are held as floating-point tensors.
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
        CimrobustError: The model is not normalised, or a weight name is not an initializer.
    """
    _require_normal(model)
    weights = frozenset(weight_names)
    if outputs is not None:
        model = _reduced(model, outputs, weights)
    graph = model.graph
    settings = Settings()
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
    """Tell whether a node with a torch form computes with a mapped weight, so that there is a gradient to start from."""
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


def _require_normal(model: onnx.ModelProto) -> None:
    """Refuse a model in which functions, Constant nodes or nodes out of order are left."""
    left = []
    if model.functions:
        left.append("functions of its own")
    if any(node.op_type == "Constant" and not node.domain for node in all_nodes(model.graph)):
        left.append("Constant nodes")
    if not all(is_sorted(graph) for graph in all_graphs(model.graph)):
        left.append("nodes in front of what they read")
    if left:
        raise CimrobustError(
            f"model must be normalised, got {' and '.join(left)}; pass it through"
            " cimrobust.onnx_io.normalise.normalised"
        )


def _reduced(
    model: onnx.ModelProto, outputs: Sequence[str], weights: frozenset[str]
) -> onnx.ModelProto:
    """Return a copy with only what some outputs depend on, and the mapped weights."""
    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    drop_outputs(reduced.graph, {value.name for value in model.graph.output} - set(outputs))
    drop_dead_parts(reduced.graph, keep=weights)
    return reduced


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """Return the type of every tensor that the model states or that inference finds.

    Inference that fails only costs knowledge.
    """
    try:
        values = infer_values(model, strict=False)
    except ValueError:
        values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    return {name: value.type for name, value in values.items()}
