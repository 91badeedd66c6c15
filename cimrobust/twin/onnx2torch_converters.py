"""Our converters in onnx2torch's own table, for operators and versions that it lacks.

After `import cimrobust.twin`, `onnx2torch.convert` takes networks that it refuses alone: of opset
19 and newer, with quantisers, recurrent layers, control flow. Converters of onnx2torch itself stay
as they are.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import onnx
import torch
from onnx import TensorProto, defs, helper
from torch import Tensor, nn

from cimrobust.twin.ops import (
    converter_catalogue,  # noqa: F401  (registers the converters)
    library,
)
from cimrobust.twin.ops import converter_registry as registry
from cimrobust.twin.ops.converter_registry import Kernel, Settings
from cimrobust.twin.ops.program import Scope, convert, view

#: Control flow: its bodies are read by the operator set of the model, of which a converter only
#: knows the version of the node; from this one on the converters of bodies are the same for both.
_BODIES = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_FIRST_WITH_BODIES = 11

#: What a tensor of an ONNX type is in onnx2torch, where torch computes with the type.
_TYPES: dict[int, torch.dtype] = {
    TensorProto.BOOL: torch.bool,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
}
#: Types that our kernels hold in wider ones.
_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}


class ConvertedNode(nn.Module):
    """One node as a module of onnx2torch.

    Takes the inputs that the node states, then what its bodies read from the graph around it; gives
    tensors of the types that the model states.
    """

    def __init__(
        self, kernel: Kernel, settings: Settings, places: list[int], types: list[int | None]
    ) -> None:
        super().__init__()
        self._kernel, self._settings = kernel, settings
        self._places, self._types = places, types

    def forward(self, *values: Any) -> Any:
        """Run the node."""
        tensors = [value for value in values if isinstance(value, Tensor)]
        floats = [value.dtype for value in tensors if value.is_floating_point()]
        self._settings.dtype = floats[0] if floats else torch.get_default_dtype()
        devices = [value.device for value in tensors if value.device.type != "cpu"]
        self._settings.device = devices[0] if devices else torch.device("cpu")
        given = [None if place < 0 else _held(values[place]) for place in self._places]
        result = self._kernel(*given)
        made = list(result) if isinstance(result, tuple) else [result]
        outputs = tuple(map(self._as_stated, made, self._types))
        return outputs if len(self._types) > 1 else outputs[0]

    def _as_stated(self, value: Any, kind: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        stated = value.dtype if kind is None else _TYPES.get(kind, value.dtype)
        return value.to(device=self._settings.device, dtype=stated)


def _held(value: Any) -> Any:
    """Return an input as our kernels hold it."""
    return value.to(_WIDER[value.dtype]) if getattr(value, "dtype", None) in _WIDER else value


_TYPES_OF: WeakKeyDictionary[Any, dict[str, onnx.TypeProto]] = WeakKeyDictionary()


def _types_of(graph: Any) -> dict[str, onnx.TypeProto]:
    """Return the types that a graph of onnx2torch knows, by name."""
    if graph not in _TYPES_OF:
        types = {name: value.type for name, value in graph.value_info.items()}
        for tensor in graph.proto.initializer:
            types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        _TYPES_OF[graph] = types
    return _TYPES_OF[graph]


def _converter(opset: int) -> Callable[[Any, Any], Any]:
    """Return a converter for onnx2torch that reads a node by a version of its operator set."""

    def run(node: Any, graph: Any) -> Any:
        common = importlib.import_module("onnx2torch.utils.common")
        settings, types = Settings(), _types_of(graph)
        scope = Scope(opsets={"": opset}, types=types, settings=settings, model=onnx.ModelProto())
        seen = view(node.proto, scope)
        kernel = convert(seen, node.proto, scope)
        if kernel is None:
            raise NotImplementedError("; ".join(scope.problems))
        stated = [name for name in seen.inputs if name] + list(seen.captures)
        places = iter(range(len(stated)))
        inputs = [next(places) if name else -1 for name in (*seen.inputs, *seen.captures)]
        kinds = [_element_type(types.get(name)) for name in seen.outputs]
        return common.OperationConverterResult(
            torch_module=ConvertedNode(kernel, settings, inputs, kinds),
            onnx_mapping=common.OnnxMapping(inputs=tuple(stated), outputs=seen.outputs),
        )

    return run


def _element_type(known: onnx.TypeProto | None) -> int | None:
    if known is None or not known.HasField("tensor_type"):
        return None
    return known.tensor_type.elem_type or None


def _versions() -> dict[str, list[int]]:
    """Return the versions of every standard operator, oldest first."""
    versions: dict[str, list[int]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions.setdefault(schema.name, []).append(schema.since_version)
    return {op: sorted(found) for op, found in versions.items()}


def _is_ours(op: str, version: int, opset: int) -> bool:
    """Return whether our table or a function body of the standard covers an operator."""
    if op in _BODIES and version < _FIRST_WITH_BODIES:
        return False
    if registry.find("", op, opset) is not None:
        return True
    schema: Any = defs.get_schema(op, version)
    return bool(schema.has_function or schema.has_context_dependent_function)


@cache
def register() -> frozenset[tuple[str, int]]:
    """Add our converters to onnx2torch's table; return the operators and versions that came in.

    None of other domains: onnx2torch cannot name modules after a domain with a dot.
    """
    table = library.registry()
    added = set()
    for op, versions in _versions().items():
        # Nodes are read by the newest operator set that has this version of theirs.
        ends = [*(version - 1 for version in versions[1:]), defs.onnx_opset_version()]
        for version, opset in zip(versions, ends, strict=True):
            known = version in library.theirs().get(("", op), {})
            if not known and _is_ours(op, version, opset):
                table.add_converter(op, version)(_converter(opset))
                added.add((op, version))
    return frozenset(added)


register()
