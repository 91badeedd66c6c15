"""Converters of onnx2torch, for operators that have none of ours.

onnx2torch imports torchvision for two operators. Beside a CPU-only torch the binary of torchvision
from PyPI does not load, and the import
then fails because the operators it would define are missing; or torchvision is not installed.
onnx2torch has to import in all these cases.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import types
from functools import cache
from typing import Any

import onnx
import torch
from onnx import defs

from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node
from cimrobust.twin.ops.program import Scope

NEED_TORCHVISION = frozenset({"RoiAlign", "NonMaxSuppression"})
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Definitions live as long as this list.
_DECLARED: list[torch.library.Library] = []


def _declare_operators() -> None:
    """Declare the operators that torchvision's Python code refers to at import.

    Those that its binary has declared are left out.
    """
    for schema in _SCHEMAS:
        name = schema.split("(")[0]
        if not torch._C._dispatch_has_kernel(f"torchvision::{name}") and not _is_defined(name):
            fragment = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            fragment.define(schema)  # type: ignore[no-untyped-call]
            _DECLARED.append(fragment)


def _is_defined(name: str) -> bool:
    try:
        getattr(torch.ops.torchvision, name)
    except AttributeError:
        return False
    return True


def _stand_in() -> types.ModuleType:
    """Return a module in the place of torchvision whose operators say that it is missing."""

    def missing(*_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError(
            "torchvision is not installed, or does not fit the installed torch"
        )

    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    for name in ("nms", "roi_align", "box_convert"):
        setattr(ops, name, missing)
    package.ops = ops  # type: ignore[attr-defined]
    return package


@cache
def load_onnx2torch() -> Any:
    """Import onnx2torch's registry whatever the state of torchvision.

    None where onnx2torch cannot be imported at all.
    """
    if importlib.util.find_spec("onnx2torch") is None:
        return None
    replaced = False
    try:
        replaced = not _import_torchvision()
        return (
            importlib.import_module("onnx2torch.node_converters.registry")
            if importlib.import_module("onnx2torch")
            else None
        )
    except (ImportError, RuntimeError, AttributeError, OSError):
        return None
    finally:
        if replaced:
            # Other code of the process shall see torchvision as it is; onnx2torch keeps its
            # reference.
            for name in ("torchvision", "torchvision.ops"):
                sys.modules.pop(name, None)


def _import_torchvision() -> bool:
    """Import torchvision, or put a stand-in in its place; returns whether it is the real one.

    The operators are declared only after a first import failed: a binary that does load would find
    them defined twice.
    """
    for declare in (False, True):
        try:
            if declare:
                _declare_operators()
            importlib.import_module("torchvision.ops")
            return True
        except (ImportError, RuntimeError, AttributeError, OSError, ValueError):
            for name in [
                name
                for name in sys.modules
                if name == "torchvision" or name.startswith("torchvision.")
            ]:
                del sys.modules[name]
    package = _stand_in()
    sys.modules["torchvision"], sys.modules["torchvision.ops"] = package, package.ops
    return False


def has_torchvision_kernels() -> bool:
    """Return whether torchvision's binary is loaded, so that its operators run."""
    return (
        bool(torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU"))
        if _is_defined("nms")
        else False
    )


def library_kernel(node: Node, proto: onnx.NodeProto, scope: Scope) -> Kernel | None:
    """Return the kernel of onnx2torch's converter for an operator, None where it has none.

    The converter is that of the version of the operator that the model uses.

    Raises:
        CannotConvertError: It has one that does not fit here.
    """
    registry = load_onnx2torch()
    if registry is None:
        return None
    try:
        converter = registry.get_converter(node.op, node.version, node.domain)
    except (NotImplementedError, defs.SchemaError):
        converter = _nearest(registry, node)
    if converter is None:
        return None
    if node.op in NEED_TORCHVISION and not has_torchvision_kernels():
        raise CannotConvertError("onnx2torch needs a torchvision that fits the installed torch")
    return _wrapped(node, proto, scope, converter)


def _nearest(registry: Any, node: Node) -> Any:
    """Return the converter of the newest version the model's opset allows.

    A newer version that onnx2torch does not know mostly adds element types; where it adds
    attributes or inputs, the node must not use them.
    """
    versions = {
        known.version: converter
        for known, converter in registry._CONVERTER_REGISTRY.items()
        if known.operation_type == node.op
        and known.domain == node.domain
        and known.version <= node.version
    }
    if not versions:
        return None
    version = max(versions)
    schema = defs.get_schema(node.op, version, node.domain)
    new = set(node.attributes) - set(schema.attributes)
    if new or len(node.inputs) > schema.max_input:
        raise CannotConvertError(
            f"onnx2torch knows it up to opset {version}, without"
            f" {', '.join(sorted(new)) or 'its last inputs'}"
        )
    return versions[version]


@cache
def _graph_class() -> Any:
    return importlib.import_module("onnx2torch.onnx_graph")


def _wrapped(node: Node, proto: onnx.NodeProto, scope: Scope, converter: Any) -> Kernel:
    graph_module = _graph_class()
    node_class = importlib.import_module("onnx2torch.onnx_node").OnnxNode
    try:
        module, mapping = converter(
            node_class(proto, unique_name=node.name), graph_module.OnnxGraph(scope.model.graph)
        )
    except Exception as error:
        raise CannotConvertError(f"onnx2torch: {error}") from error
    swallowed = (set(proto.input) - set(mapping.inputs)) & scope.protected
    if swallowed:
        raise CannotConvertError(
            f"onnx2torch holds the weight {', '.join(sorted(swallowed))} as a constant"
        )
    module = module.eval()
    positions = [list(proto.input).index(name) if name else -1 for name in mapping.inputs]
    names = list(inspect.signature(module.forward).parameters)

    def run(*values: Any) -> Any:
        chosen = [values[place] if 0 <= place < len(values) else None for place in positions]
        given = {
            name: value for name, value in zip(names, chosen, strict=False) if value is not None
        }
        result = module(**given) if None in chosen else module(*chosen)
        return tuple(result) if isinstance(result, list) else result

    return run
