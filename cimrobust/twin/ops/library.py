"""The door to onnx2torch: its table of converters, and its operators as kernels of ours.

onnx2torch imports torchvision for two operators, `NonMaxSuppression` and `RoiAlign`. The binary of
torchvision often does not fit the installed torch, and then its import fails. So onnx2torch is
imported with functions in the place of those two that load torchvision when they are called.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import onnx
import torch
from onnx import defs

from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, operator

#: What onnx2torch refers to in torchvision.
_IN_TORCHVISION = ("nms", "roi_align", "box_convert")


def _loaded_later(name: str) -> Callable[..., Any]:
    """Return a function of torchvision that imports torchvision when it is called."""

    def call(*values: Any, **options: Any) -> Any:
        return getattr(importlib.import_module("torchvision.ops"), name)(*values, **options)

    return call


@cache
def registry() -> types.ModuleType:
    """Import onnx2torch and return the module of its table, whatever the state of torchvision.

    Other code of the process sees torchvision as it is.
    """
    modules: dict[str, types.ModuleType] = {}
    if "torchvision" not in sys.modules:
        ops = types.ModuleType("torchvision.ops")
        vars(ops).update({name: _loaded_later(name) for name in _IN_TORCHVISION})
        package = types.ModuleType("torchvision")
        vars(package).update(ops=ops)
        modules = {"torchvision": package, "torchvision.ops": ops}
    sys.modules.update(modules)
    try:
        importlib.import_module("onnx2torch")
        return importlib.import_module("onnx2torch.node_converters.registry")
    finally:
        for name in modules:
            del sys.modules[name]


@cache
def theirs() -> Mapping[tuple[str, str], Mapping[int, Any]]:
    """Return onnx2torch's own converters: by domain and operator, by version."""
    found: dict[tuple[str, str], dict[int, Any]] = {}
    for entry, converter in registry()._CONVERTER_REGISTRY.items():
        if converter.__module__.startswith("onnx2torch."):
            found.setdefault((entry.domain, entry.operation_type), {})[entry.version] = converter
    return found


def taken(
    *names: str, since: int = 1, wrap: Callable[[Kernel], Kernel] = lambda kernel: kernel
) -> None:
    """Register onnx2torch's converter of some standard operators as ours.

    Args:
        names: Operators that neither hold state nor look at the graph around them.
        since: First opset version.
        wrap: Applied to the function of each node.
    """
    operator(*names, since=since)(lambda node: wrap(kernel_of(node)))


def kernel_of(node: Node) -> Kernel:
    """Return what onnx2torch makes of a node, as a function of its inputs.

    Raises:
        CannotConvertError: It has no converter for the node, or one that refuses it.
    """
    converter = _converter(node)
    proto = onnx.helper.make_node(
        node.op, node.inputs, node.outputs, node.name, domain=node.domain, **node.attributes
    )
    wrapped = importlib.import_module("onnx2torch.onnx_node").OnnxNode(proto, unique_name=node.name)
    # An empty graph: what is a weight, a size or a constant of the network stays an input.
    graph = importlib.import_module("onnx2torch.onnx_graph").OnnxGraph(onnx.GraphProto())
    try:
        module, _mapping = converter(wrapped, graph)
    except Exception as error:  # its converters raise what comes up
        raise CannotConvertError(f"onnx2torch: {type(error).__name__}: {error}") from error
    run: Kernel = module.eval().forward
    return run


def _converter(node: Node) -> Any:
    """Return onnx2torch's converter of the newest version that the model's opset allows.

    A newer version that onnx2torch does not know mostly adds element types; where it adds
    attributes or inputs, the node must not use them.
    """
    versions = theirs().get((node.domain, node.op), {})
    known = {version: made for version, made in versions.items() if version <= node.version}
    if not known:
        raise CannotConvertError(f"onnx2torch has no {node.op} for opset {node.version}")
    version = max(known)
    schema = defs.get_schema(node.op, version, node.domain)
    new = set(node.attributes) - set(schema.attributes)
    if new or len(node.inputs) > schema.max_input:
        raise CannotConvertError(
            f"onnx2torch knows it up to opset {version}, without"
            f" {', '.join(sorted(new)) or 'its last inputs'}"
        )
    return known[version]


def has_torchvision() -> bool:
    """Return whether torchvision's operators run: it is installed and fits the installed torch."""
    try:
        importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError, AttributeError, OSError, ValueError):
        return False
    kernel = "torchvision::roi_align"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(kernel, "CPU"))
