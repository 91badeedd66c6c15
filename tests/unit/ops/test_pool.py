from __future__ import annotations

import numpy as np
import pytest

HOW = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [2, 2, 2, 2]},
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("opset", [7, 8, 10, 12, 22])
@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
def test_pooling(check, rng, op, opset, ceil, how):
    x = rng.normal(size=(2, 3, 9, 8)).astype(np.float32)
    if ceil and (opset < (18 if op == "LpPool" else 10) or "auto_pad" in how):
        pytest.skip("ceil_mode is newer, or of no effect")
    check(op, {"x": x}, opset=opset, **({"ceil_mode": 1} if ceil else {}), **how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("ceil", [0, 1])
def test_average_pool_counts_padding(check, rng, how, ceil):
    if ceil and "auto_pad" in how:
        pytest.skip("of no effect")
    check("AveragePool", {"x": rng.normal(size=(2, 3, 9, 8)).astype(np.float32)}, opset=19, count_include_pad=1, ceil_mode=ceil, **how)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1]])
def test_dilated_pooling(check, rng, op, pads):
    x = rng.normal(size=(1, 2, 9, 9)).astype(np.float32)
    check(op, {"x": x}, opset=19, kernel_shape=[3, 2], strides=[2, 1], dilations=[2, 2], pads=pads)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling_ranks(check, rng, op, rank):
    x = rng.normal(size=(2, 2, *[7] * rank)).astype(np.float32)
    check(op, {"x": x}, opset=11, kernel_shape=[3] * rank, strides=[2] * rank, pads=[1] * rank + [0] * rank)


@pytest.mark.parametrize("ceil", [0, 1])
def test_max_pool_indices(check, rng, ceil):
    x = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
    check("MaxPool", {"x": x}, opset=12, outputs=["y", "i"], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=ceil)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pooling(check, rng, op, rank):
    check(op, {"x": rng.normal(size=(2, 3, *[4] * rank)).astype(np.float32)}, opset=9)


def test_max_pool_of_integers(check, rng):
    x = rng.integers(-128, 127, (1, 2, 6, 6)).astype(np.int8)
    check("MaxPool", {"x": x}, opset=12, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
