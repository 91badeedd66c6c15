"""One node of onnxruntime, run as it is and as the standard nodes that take its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cimrobust.onnx_io.lowering.lower_model import Lowered, lower
from cimrobust.onnx_io.normalise import normalised
from cimrobust.twin.to_torch import to_torch

# float32 sums of tens of terms, in another order.
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Pair:
    """One node as a model, and what becomes of it."""

    original: onnx.ModelProto
    lowered: onnx.ModelProto
    outcome: Lowered
    feeds: Mapping[str, np.ndarray]

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.lowered.graph.node}

    def run(self, model: onnx.ModelProto) -> list[np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(value) for value in session.run(None, dict(self.feeds))]


@dataclass
class Compare:
    """Compares a node with its lowering; keyword arguments of the call are its inputs by name."""

    pairs: list[Pair] = field(default_factory=list)

    def __call__(
        self,
        op: str,
        inputs: Sequence[str],
        arrays: Mapping[str, np.ndarray],
        *,
        opset: int = 17,
        domain: str = "com.microsoft",
        outputs: Sequence[str] = ("y",),
        constants: Sequence[str] = (),
        symbolic: bool = True,
        tolerance: float = TOLERANCE,
        twin: bool = True,
        skip: Sequence[str] = (),
        **attributes: object,
    ) -> Pair:
        pair = make_pair(
            op,
            inputs,
            arrays,
            opset=opset,
            domain=domain,
            outputs=outputs,
            constants=constants,
            symbolic=symbolic,
            attributes=attributes,
        )
        assert not pair.outcome.refused, pair.outcome.refused
        assert all(node.domain == "" for node in pair.lowered.graph.node), pair.outcome.notes
        onnx.checker.check_model(pair.lowered, full_check=True)
        expected, got = pair.run(pair.original), pair.run(pair.lowered)
        wanted = [
            index for index, name in enumerate(name for name in outputs if name) if name not in skip
        ]
        for index in wanted:
            assert got[index].dtype == expected[index].dtype
            assert got[index].shape == expected[index].shape, f"output {index}"
            scale = max(1.0, float(np.abs(expected[index].astype(np.float64)).max(initial=0.0)))
            np.testing.assert_allclose(
                got[index],
                expected[index],
                rtol=0,
                atol=tolerance * scale,
                err_msg=f"output {index}",
            )
        if twin:
            made = to_torch(normalised(pair.lowered))(
                {name: torch.as_tensor(value) for name, value in pair.feeds.items()}
            )
            names = [name for name in outputs if name]
            for index in wanted:
                scale = max(1.0, float(np.abs(expected[index].astype(np.float64)).max(initial=0.0)))
                np.testing.assert_allclose(
                    made[names[index]].numpy(),
                    expected[index],
                    rtol=0,
                    atol=tolerance * scale,
                    err_msg=f"twin {index}",
                )
        self.pairs.append(pair)
        return pair


def make_pair(
    op: str,
    inputs: Sequence[str],
    arrays: Mapping[str, np.ndarray],
    *,
    opset: int,
    domain: str,
    outputs: Sequence[str],
    constants: Sequence[str],
    symbolic: bool,
    attributes: Mapping[str, object],
) -> Pair:
    node = helper.make_node(
        op, list(inputs), list(outputs), name="node", domain=domain, **attributes
    )
    feeds = {name: value for name, value in arrays.items() if name not in constants}
    values = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(value.dtype),
            [f"{name}_{axis}" if symbolic else size for axis, size in enumerate(value.shape)],
        )
        for name, value in feeds.items()
    ]
    made = [onnx.ValueInfoProto(name=name) for name in outputs if name]
    graph = helper.make_graph(
        [node],
        "g",
        values,
        made,
        [numpy_helper.from_array(arrays[name], name) for name in constants],
    )
    imports = [
        helper.make_opsetid("", opset),
        *([helper.make_opsetid(domain, 1)] if domain else []),
    ]
    original = helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 21 else 10)
    lowered = onnx.ModelProto()
    lowered.CopyFrom(original)
    outcome = lower(lowered)
    inferred = onnx.shape_inference.infer_shapes(lowered, strict_mode=True)
    for value, found in zip(lowered.graph.output, inferred.graph.output, strict=True):
        value.type.CopyFrom(
            onnx.TypeProto(
                tensor_type=onnx.TypeProto.Tensor(
                    elem_type=found.type.tensor_type.elem_type or TensorProto.FLOAT
                )
            )
        )
        value.type.tensor_type.shape.CopyFrom(found.type.tensor_type.shape)
        if not found.type.tensor_type.HasField("shape"):
            value.type.tensor_type.ClearField("shape")
    return Pair(original, lowered, outcome, feeds)


@pytest.fixture
def same() -> Callable[..., Pair]:
    """Compare a node with its lowering in onnxruntime and in torch."""
    return Compare()


@pytest.fixture
def pair() -> Callable[..., Pair]:
    """Make a node and its lowering, without comparing."""
    return make_pair


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
