"""Building the torch twin of a normalised network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx
import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.errors import CimrobustError
from cimrobust.onnx_io.large_models import without_data
from cimrobust.onnx_io.normalise import drop_dead_parts, drop_outputs, is_sorted
from cimrobust.onnx_io.shapes import infer_values
from cimrobust.onnx_io.views import MOVING_OPS, TYPE_OPS
from cimrobust.onnx_io.walk import all_graphs, all_nodes, read_names
from cimrobust.twin.ops import converter_catalogue  # noqa: F401  (registers the converters)
from cimrobust.twin.ops.converter_registry import CannotConvertError, Settings
from cimrobust.twin.ops.program import Program, Scope, Wrapper
from cimrobust.twin.ops.torch_tensors import to_tensor
from cimrobust.twin.twin_module import Twin

if TYPE_CHECKING:
    from cimrobust.twin.ops.outside import OutsideNode

__all__ = ["Twin", "TwinUnavailableError", "to_torch"]


class TwinUnavailableError(CimrobustError):
    """The model has no torch form; `nodes` lists every node without a converter."""

    exit_code = 4

    def __init__(self, nodes: Sequence[str]) -> None:
        self.nodes = tuple(nodes)
        super().__init__(
            f"every node must have a torch form, got none for {'; '.join(nodes)}; gradient-free"
            " methods do not need it"
        )


def to_torch(
    model: onnx.ModelProto,
    *,
    weight_names: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
    outside: bool = False,
    forced: Mapping[str, str] | None = None,
    wrapped: Mapping[str, Wrapper] | None = None,
    values: Mapping[str, Shaped[Tensor, "..."]] | None = None,
) -> Twin:
    """Build the torch twin of a model.

    Args:
        model: A normalised network, opset 7 or newer, with all its data inside; see
            `cimrobust.onnx_io.normalise.normalised`.
        weight_names: Initializers that are stored in devices. Each is one tensor of the twin, also
            where it is used more than once or reaches its layer through Reshape, Transpose and the
            like. Int ones are held as floating-point tensors.
        outputs: Graph outputs wanted; nodes that none of them depends on need no torch form. None:
            all.
        outside: Nodes without a torch form run in onnxruntime, and their gradients are estimates;
            see `Twin.outside`.
        forced: Nodes that run there although they have a torch form, by name, with the reason.
        wrapped: By name of a node what makes the kernel that runs of the one that it has; nodes of
            bodies keep theirs.
        values: What mapped weights are, floating-point, in place of the model's values; held as
            they are, without a copy.

    Returns:
        The twin, in evaluation mode.

    Raises:
        TwinUnavailableError: Nodes have no torch form; all of them are listed. With `outside`: so
            have all nodes that read mapped weights.
        CimrobustError: The model is not normalised, or a weight name is not an initializer.
    """
    _require_normal(model)
    weights = frozenset(weight_names)
    held = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in weights}
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
        wrapped=wrapped or {},
    )
    constants = _constants(graph, scope, held, values or {})
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


def _constants(
    graph: onnx.GraphProto,
    scope: Scope,
    held: Mapping[str, onnx.TensorProto],
    given: Mapping[str, Shaped[Tensor, "..."]],
) -> dict[str, Shaped[Tensor, "..."]]:
    """Return the initializers; texts, which only nodes run outside can read, are left out.

    Args:
        graph: The graph, whose mapped weights need no data.
        scope: What the graph is converted with.
        held: The mapped weights with their data.
        given: Those of which the values are known.
    """
    read = {name for node in graph.node for name in read_names(node)} | {
        value.name for value in graph.output
    }
    constants: dict[str, Shaped[Tensor, "..."]] = {}
    for proto in graph.initializer:
        try:
            known = given.get(proto.name)
            constants[proto.name] = (
                to_tensor(held.get(proto.name, proto)) if known is None else known
            )
        except CannotConvertError as error:
            if proto.name in read and scope.outside is None:
                scope.problems.append(str(error))
    return constants


def _reaches_torch(
    program: Program, weights: frozenset[str], outside: Sequence[OutsideNode]
) -> bool:
    """Tell whether a node with a torch form computes with a mapped weight.

    Gradients need one to start from.
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
    """Return a copy with only what some outputs depend on, and the mapped weights without data."""
    reduced = without_data(model, weights)
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
