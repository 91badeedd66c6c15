"""Models in memory as the bytes of an ONNX file."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import onnx
from google.protobuf.message import Message

from cimrobust.errors import UsageError
from cimrobust.onnx_io.estimator import converted
from cimrobust.onnx_io.walk import all_graphs
from cimrobust.printable_text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from cimrobust.array_shapes import Shaped

_ACCEPTED = (
    "give the path of an ONNX file, its bytes, an onnx.ModelProto, a torch.nn.Module with"
    " example_input, or a fitted estimator of scikit-learn"
)


def model_bytes(model: object, *, example_input: object = None) -> bytes:
    """Return a model as the bytes of an ONNX file.

    Args:
        model: Bytes of a file, an `onnx.ModelProto`, a `torch.nn.Module` or a fitted estimator of
            scikit-learn.
        example_input: What a module is exported with: a tensor or an array, or a tuple of them.

    Raises:
        UsageError: It is none of them, or cannot be exported.
    """
    if is_module(model):
        return _exported(model, example_input)
    if example_input is not None:
        raise UsageError(
            f"example_input must come with a torch.nn.Module, got {_kind(model)} (example_input);"
            " leave it out"
        )
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model)
    if isinstance(model, onnx.ModelProto):
        return _serialised(model)
    sklearn = sys.modules.get("sklearn.base")
    if sklearn is not None and isinstance(model, sklearn.BaseEstimator):
        return _serialised(converted(model))
    raise UsageError(
        f"model must be a file or a model in memory, got {_kind(model)} (model); {_ACCEPTED}"
    )


def is_module(model: object) -> bool:
    """Tell whether an object is a torch module, without importing torch where nobody has."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _serialised(model: onnx.ModelProto) -> bytes:
    try:
        return bytes(model.SerializeToString())
    except Exception as err:  # protobuf has errors of its own for models beyond 2 GiB
        raise UsageError(
            "model in memory must fit in one file of 2 GiB, got"
            f" {printable(err)[:200]} (model); save it with external data and give the file"
        ) from err


def _exported(module: Any, example_input: object) -> bytes:
    """Export a module as it computes at inference; its modes are as before afterwards."""
    if example_input is None:
        raise UsageError(
            "torch.nn.Module must come with an input to export it with, got none (example_input);"
            " give example_input, a tensor of one or more samples"
        )
    if importlib.util.find_spec("onnxscript") is None:
        raise UsageError(
            "export of a torch.nn.Module must have onnxscript, which is not installed (model);"
            " install it: pip install onnxscript, or export the model and give the file"
        )
    inputs = _tensors(module, example_input)
    with _at_inference(module):
        model = _export(module, inputs)
    _forget_sources(model)
    return _serialised(model)


def _export(module: Any, inputs: tuple[Shaped[Tensor, "..."], ...]) -> onnx.ModelProto:
    import torch  # noqa: PLC0415  # imported already: there is a module

    batch = tuple({0: torch.export.Dim.AUTO} if tensor.ndim else None for tensor in inputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module, inputs, dynamo=True, dynamic_shapes=batch, verbose=False
            )
    except Exception as err:  # whatever torch raises on a module that it cannot trace
        raise UsageError(
            "torch.nn.Module must be one that torch.onnx.export exports, got"
            f" {type(err).__name__}: {printable(err)[:300]} (model); export it yourself and give"
            " the file"
        ) from err
    assert program is not None
    return program.model_proto


def _tensors(module: Any, example_input: object) -> tuple[Shaped[Tensor, "..."], ...]:
    """Return the inputs on the device of the module.

    One sample is given twice: torch takes a first axis of 1 for a constant.
    """
    import torch  # noqa: PLC0415  # imported already: there is a module

    given = example_input if isinstance(example_input, tuple) else (example_input,)
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    try:
        tensors = [torch.as_tensor(entry).to(device) for entry in given]
    except (TypeError, ValueError, RuntimeError) as err:
        raise UsageError(
            "example_input must be a tensor or an array, or a tuple of them, got"
            f" {_kind(example_input)} (example_input); give the samples that the module takes"
        ) from err
    return tuple(
        torch.cat([tensor, tensor]) if tensor.ndim and len(tensor) == 1 else tensor
        for tensor in tensors
    )


@contextmanager
def _at_inference(module: Any) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _forget_sources(model: onnx.ModelProto) -> None:
    """Remove where in whose code nodes come from, so the same module gives the same bytes."""
    model.ClearField("metadata_props")
    parts: list[Message] = []
    for graph in all_graphs(model.graph):
        parts += [graph, *graph.node, *graph.value_info, *graph.initializer]
        parts += [*graph.input, *graph.output]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
