from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from cimrobust.twin.to_torch import to_torch

HOW = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [2, 2, 2, 2]},
]


CEIL_SINCE = {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}
# ceil_mode has no effect together with auto_pad.
CASES = [
    (op, opset, ceil, how)
    for op, since in CEIL_SINCE.items()
    for opset in (7, 8, 10, 12, 22)
    for ceil in (0, 1)
    for how in HOW
    if not ceil or (opset >= since and "auto_pad" not in how)
]


@pytest.mark.parametrize(("op", "opset", "ceil", "how"), CASES)
def test_pooling(check, rng, op, opset, ceil, how):
    x = rng.normal(size=(2, 3, 9, 8)).astype(np.float32)
    check(op, {"x": x}, opset=opset, **({"ceil_mode": 1} if ceil else {}), **how)


@pytest.mark.parametrize(
    ("how", "ceil"),
    [(how, ceil) for how in HOW for ceil in (0, 1) if not ceil or "auto_pad" not in how],
)
def test_average_pool_counts_padding(check, rng, how, ceil):
    check(
        "AveragePool",
        {"x": rng.normal(size=(2, 3, 9, 8)).astype(np.float32)},
        opset=19,
        count_include_pad=1,
        ceil_mode=ceil,
        **how,
    )


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1]])
def test_dilated_pooling(check, rng, op, pads):
    x = rng.normal(size=(1, 2, 9, 9)).astype(np.float32)
    check(op, {"x": x}, opset=19, kernel_shape=[3, 2], strides=[2, 1], dilations=[2, 2], pads=pads)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling_ranks(check, rng, op, rank):
    x = rng.normal(size=(2, 2, *[7] * rank)).astype(np.float32)
    check(
        op,
        {"x": x},
        opset=11,
        kernel_shape=[3] * rank,
        strides=[2] * rank,
        pads=[1] * rank + [0] * rank,
    )


@pytest.mark.parametrize("ceil", [0, 1])
def test_max_pool_indices(check, rng, ceil):
    x = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
    check(
        "MaxPool",
        {"x": x},
        opset=12,
        outputs=["y", "i"],
        kernel_shape=[3, 2],
        strides=[2, 2],
        pads=[1, 0, 0, 1],
        ceil_mode=ceil,
    )


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pooling(check, rng, op, rank):
    check(op, {"x": rng.normal(size=(2, 3, *[4] * rank)).astype(np.float32)}, opset=9)


def test_max_pool_of_integers(check, rng):
    x = rng.integers(-128, 127, (1, 2, 6, 6)).astype(np.int8)
    check("MaxPool", {"x": x}, opset=12, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("ceil", [0, 1])
def test_max_pool_with_gradient_gives_the_same_values(rng, how, ceil):
    attributes = {**how, **({"ceil_mode": 1} if ceil and "auto_pad" not in how else {})}
    graph = helper.make_graph(
        [helper.make_node("MaxPool", ["x"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3, 9, 8])],
        [onnx.ValueInfoProto(name="y")],
    )
    twin = to_torch(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    )
    x = torch.from_numpy(rng.normal(size=(2, 3, 9, 8)).astype(np.float32))
    assert torch.equal(twin({"x": x})["y"], twin({"x": x.clone().requires_grad_()})["y"])
