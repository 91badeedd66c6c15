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

from cimrobust.twin.to_torch import Twin, to_torch
from tests.exact_runs import exact_model, exact_options

Arrays = Mapping[str, Any]
#: Operators that the tests give shapes, bounds or conditions as inputs, or whose outputs have a
#: size of their own.
DATA_DEPENDENT = frozenset(
    {"If", "Range", "NonZero", "NonMaxSuppression", "ConstantOfShape", "Clip"}
)
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
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs if name],
        [
            (
                value
                if isinstance(value, onnx.TensorProto)
                else numpy_helper.from_array(np.asarray(value), name)
            )
            for name, value in constants.items()
        ],
    )
    imports = [helper.make_opsetid("", opset)] + (
        [helper.make_opsetid(domain, 1)] if domain else []
    )
    return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 19 else 10)


def run_onnxruntime(model: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """Run a model without optimisation, one thread."""
    options = exact_options()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(exact_model(model), options).run(None, dict(inputs))


def compare(
    model: onnx.ModelProto,
    inputs: Arrays,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    levels: int = 0,
) -> Twin:
    """Assert that twin and onnxruntime agree, integers within `levels`; the default tolerance is
    float32 rounding of short sums.
    """
    twin = to_torch(model)
    with torch.no_grad():
        got = twin({name: torch.from_numpy(np.array(value)) for name, value in inputs.items()})
    for name, want in zip(twin.outputs, run_onnxruntime(model, inputs), strict=True):
        value = got[name].numpy()
        assert value.shape == want.shape, name
        whole = want.dtype.kind in "iu"
        np.testing.assert_allclose(
            value.astype(np.float64),
            want.astype(np.float64),
            rtol=0 if whole else rtol,
            atol=levels if whole else atol,
        )
    if inputs:
        check_each(twin, inputs, got)
    return twin


def check_each(twin: Twin, inputs: Arrays, alone: Mapping[str, torch.Tensor]) -> None:
    """Assert that runs which share a pass give what a run alone gives, unless the values of a run
    decide what is computed.
    """
    runs = {
        name: torch.stack([torch.from_numpy(np.array(value))] * 2) for name, value in inputs.items()
    }
    if DATA_DEPENDENT & {step.node.op for name in twin.outputs for step in twin.steps_to(name)}:
        return
    with torch.no_grad():
        together = twin.each(runs, {}, {}, twin.outputs)
    for name in twin.outputs:
        # float32 sums in another order
        torch.testing.assert_close(
            together[name][1], alone[name], rtol=1e-5, atol=1e-5, equal_nan=True, check_dtype=False
        )


@pytest.fixture
def check() -> Callable[..., Twin]:
    """Return a function that builds a model of one node and compares the twin with onnxruntime."""

    def run(
        op: str,
        inputs: Arrays,
        *,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        levels: int = 0,
        **how: Any,
    ) -> Twin:
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
