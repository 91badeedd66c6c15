"""One node against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cimrobust.graph.to_torch import Twin, to_torch
from tests.exact_runs import exact_model, exact_options

Arrays = Mapping[str, Any]
TYPES = {TensorProto.UINT4: "uint4", TensorProto.INT4: "int4"}


def one_node(
    op: str,
    inputs: Arrays,
    *,
    opset: int,
    constants: Arrays | None = None,
    outputs: Sequence[str] = ("y",),
    domain: str = "",
    order: Sequence[str] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """Build a model of one node; `order` lists its inputs, "" for one that is left out."""
    constants = constants or {}
    names = list(order) if order is not None else [*inputs, *constants]
    attributes = {name: value for name, value in attributes.items() if value is not None}
    node = helper.make_node(op, names, list(outputs), name="node", domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape) for name, value in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs if name],
        [
            value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 19 else 10)


def run_onnxruntime(model: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """Run a model without optimisation, one thread."""
    options = exact_options()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(exact_model(model), options).run(None, dict(inputs))


def compare(model: onnx.ModelProto, inputs: Arrays, *, rtol: float = 1e-5, atol: float = 1e-5, levels: int = 0) -> Twin:
    """Assert that twin and onnxruntime agree, integers within `levels`; the default tolerance is float32 rounding of short sums."""
    twin = to_torch(model)
    with torch.no_grad():
        got = twin({name: torch.from_numpy(np.array(value)) for name, value in inputs.items()})
    for name, want in zip(twin.outputs, run_onnxruntime(model, inputs), strict=True):
        value = got[name].numpy()
        assert value.shape == want.shape, name
        whole = want.dtype.kind in "iu"
        np.testing.assert_allclose(
            value.astype(np.float64), want.astype(np.float64), rtol=0 if whole else rtol, atol=levels if whole else atol
        )
    return twin


@pytest.fixture
def check() -> Callable[..., Twin]:
    """Return a function that builds a model of one node and compares the twin with onnxruntime."""

    def run(op: str, inputs: Arrays, *, rtol: float = 1e-5, atol: float = 1e-5, levels: int = 0, **how: Any) -> Twin:
        return compare(one_node(op, inputs, **how), inputs, rtol=rtol, atol=atol, levels=levels)

    return run


@pytest.fixture
def check_model() -> Callable[..., Twin]:
    """Return a function that compares the twin of a whole model with onnxruntime."""
    return compare


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(7)
