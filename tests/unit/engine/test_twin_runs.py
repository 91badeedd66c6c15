"""Runs of networks with a fixed batch, many in one pass."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser

from cimrobust.engine.batches import Feeding
from cimrobust.engine.twin_runs import run_outputs, runs_at_once
from cimrobust.twin.to_torch import Twin, to_torch

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
SAMPLES = 12
NETWORKS = {
    "mixes its batch": (
        (
            "(float[2, 4] x) => (float[2, 3] y) { t = Transpose(x) m = MatMul(t, v) n ="
            " Transpose(m) y = MatMul(n, w) }"
        ),
        Feeding("fixed", 2),
        (4,),
    ),
    "one range for a batch": (
        (
            "(float[1, 4] x) => (float[1, 3] y) { q, s, z = DynamicQuantizeLinear(x) d ="
            " DequantizeLinear(q, s, z) y = MatMul(d, w) }"
        ),
        Feeding("fixed", 1),
        (4,),
    ),
    "no batch axis": (
        "(float[4] x) => (float[3] y) { y = MatMul(x, w) }",
        Feeding("none", 1),
        (4,),
    ),
    "drops its batch axis": (
        "(float[1, 4] x) => (float[3] y) { m = MatMul(x, w) y = Reshape(m, three) }",
        Feeding("fixed", 1),
        (4,),
    ),
    "recurrent": (
        (
            "(float[1, 5, 4] x) => (float[1, 3] y) { t = Transpose<perm = [1, 0, 2]>(x) a, l ="
            " GRU<hidden_size = 2>(t, gw, gr) h = Reshape(l, two) y = MatMul(h, u) }"
        ),
        Feeding("fixed", 1),
        (5, 4),
    ),
}


def build(body: str) -> Twin:
    draw = np.random.default_rng(2)
    shapes = {"w": (4, 3), "v": (2, 2), "u": (2, 3), "gw": (1, 6, 4), "gr": (1, 6, 2)}
    model = parser.parse_model(f"{HEAD} g {body}")
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"three": np.array([3], np.int64), "two": np.array([1, 2], np.int64)}
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in arrays.items()
    )
    weights = [
        name for name in ("w", "u", "gr") if any(name in node.input for node in model.graph.node)
    ]
    return to_torch(onnx.shape_inference.infer_shapes(model), weight_names=weights)


def samples(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {
        "x": torch.from_numpy(
            np.random.default_rng(5).normal(size=(SAMPLES, *shape)).astype(np.float32)
        )
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_those_of_runs_alone(name: str) -> None:
    body, feeding, shape = NETWORKS[name]
    twin, inputs = build(body), samples(shape)
    twin.straight_through = True
    most = runs_at_once(twin, "y", inputs, {}, feeding=feeding, most=4)
    assert most == 4
    found = []
    for at_once in (1, most):
        leaves = {key: value.clone().requires_grad_() for key, value in twin.weights.items()}
        taken = torch.arange(SAMPLES).reshape(-1, feeding.size)
        output = run_outputs(
            twin, "y", leaves, inputs, {}, feeding=feeding, taken=taken, at_once=at_once
        )
        found.append((output, *torch.autograd.grad(output.square().sum(), list(leaves.values()))))
    assert found[0][0].shape == (SAMPLES, 3)
    for alone, together in zip(*found, strict=True):
        torch.testing.assert_close(
            together, alone, rtol=1e-5, atol=1e-5
        )  # float32 sums in another order


def test_a_network_that_chooses_by_its_values_runs_alone() -> None:
    body = """(float[1, 4] x) => (float[1, 3] y) { m = ReduceMax<keepdims = 0>(x) c = Cast<to = 9>(m)
        k = If(c) <then_branch = one () => (float[1, 4] p) { p = Neg(x) }, else_branch = two () => (float[1, 4] q) { q = Abs(x) }>
        y = MatMul(k, w) }"""  # noqa: E501
    assert (
        runs_at_once(build(body), "y", samples((4,)), {}, feeding=Feeding("fixed", 1), most=4) == 1
    )


@pytest.mark.parametrize(("feeding", "most"), [(Feeding("free", 8), 4), (Feeding("none", 1), 1)])
def test_nothing_to_join(feeding: Feeding, most: int) -> None:
    body, _feeding, shape = NETWORKS["no batch axis"]
    assert runs_at_once(build(body), "y", samples(shape), {}, feeding=feeding, most=most) == 1
