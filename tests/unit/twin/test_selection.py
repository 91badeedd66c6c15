from __future__ import annotations

import numpy as np
import pytest

REDUCTIONS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
]
X = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)


# Negative axes are new in opset 11.
AXES = [
    (opset, axes)
    for opset in (7, 11, 13, 18, 20)
    for axes in (None, [1], [0, -1])
    if opset >= 11 or axes != [0, -1]
]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize(("opset", "axes"), AXES)
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(check, op, opset, axes, keep):
    x = abs(X) + 0.1
    by_input = opset >= 18 or (op == "ReduceSum" and opset >= 13)
    if by_input and axes is not None:
        check(op, {"x": x}, opset=opset, constants={"a": np.array(axes, np.int64)}, keepdims=keep)
    else:
        check(op, {"x": x}, opset=opset, axes=axes, keepdims=keep)


def test_reduction_that_does_nothing(check):
    check(
        "ReduceSum",
        {"x": X},
        opset=13,
        constants={"a": np.zeros(0, np.int64)},
        noop_with_empty_axes=1,
    )


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("opset", [7, 11, 12, 13])
@pytest.mark.parametrize("last", [0, 1])
def test_arguments_of_extrema(check, op, opset, last):
    x = np.array([[3, 1, 3, 1], [2, 2, 0, 0]], np.float32)
    for axis in (0, 1):
        check(
            op,
            {"x": x},
            opset=opset,
            axis=axis,
            keepdims=axis,
            **({"select_last_index": last} if opset > 11 else {}),
        )


@pytest.mark.parametrize("opset", [7, 10, 11])
@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(check, opset, largest):
    x = np.array([[3, 1, 3, 2], [2, 2, 0, 5]], np.float32)
    if opset < 10:
        check("TopK", {"x": x}, opset=opset, outputs=["v", "i"], k=2)
    else:
        check(
            "TopK",
            {"x": x},
            opset=opset,
            outputs=["v", "i"],
            constants={"k": np.array([2])},
            **({"largest": largest} if opset > 10 else {}),
        )


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumsum(check, exclusive, reverse):
    check(
        "CumSum",
        {"x": X},
        opset=14,
        constants={"a": np.int64(1)},
        exclusive=exclusive,
        reverse=reverse,
    )


@pytest.mark.parametrize("indices", [np.int64(1), np.array([0, -1]), np.array([[0, 1], [2, 0]])])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(check, indices, axis):
    check("Gather", {"x": X}, opset=11, constants={"i": np.asarray(indices) % 2}, axis=axis)


def test_gather_elements_and_nd(check):
    where = np.array([[[0, 1, -1, 2], [1, 0, 2, 2]]] * 2)
    check("GatherElements", {"x": X}, opset=13, constants={"i": where}, axis=1)
    check("GatherND", {"x": X}, opset=13, constants={"i": np.array([[0, 1], [1, -1]])})
    check("GatherND", {"x": X}, opset=13, constants={"i": np.array([[1], [2]])}, batch_dims=1)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatters(check, reduction):
    opset, how = (11, {}) if reduction == "none" else (18, {"reduction": reduction})
    check(
        "ScatterElements",
        {"x": X},
        opset=opset,
        constants={"i": np.array([[[0, 2, 1, -1]]]), "u": X[:1, :1] * 2},
        axis=1,
        **how,
    )
    check(
        "ScatterND",
        {"x": X},
        opset=opset,
        constants={"i": np.array([[0, 1], [1, 0]]), "u": X[0, :2] * 3},
        **how,
    )


def test_one_hot_non_zero_compress(check):
    constants = {"d": np.int64(4), "v": np.array([0.5, 2], np.float32)}
    check("OneHot", {"i": np.array([[0, 3], [-1, 9]])}, opset=11, constants=constants, axis=1)
    check("NonZero", {"x": (X > 0).astype(np.float32)}, opset=9)
    check("Compress", {"x": X}, opset=11, constants={"c": np.array([True, False, True])}, axis=1)


def test_reverse_sequence(check):
    check(
        "ReverseSequence",
        {"x": X},
        opset=10,
        constants={"l": np.array([2, 1, 2])},
        batch_axis=1,
        time_axis=0,
    )


COORDINATES = [
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "half_pixel_symmetric",
]


# half_pixel_symmetric is new in opset 19.
RESIZES = [
    (opset, how)
    for opset in (11, 13, 19)
    for how in COORDINATES
    if opset >= 19 or how != "half_pixel_symmetric"
]


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("opset", "how"), RESIZES)
@pytest.mark.parametrize("scale", [2.0, 0.6, 1.5])
def test_resize_by_scale(check, rng, mode, opset, how, scale):
    x, scales = (
        rng.normal(size=(1, 2, 6, 5)).astype(np.float32),
        np.array([1, 1, scale, scale], np.float32),
    )
    # The region is an input that may not be left out in opset 11.
    constants = {"r": np.zeros(0, np.float32), "s": scales} if opset == 11 else {"s": scales}
    order = ["x", "r" if opset == 11 else "", "s"]
    check(
        "Resize",
        {"x": x},
        opset=opset,
        constants=constants,
        order=order,
        mode=mode,
        coordinate_transformation_mode=how,
    )


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_resize_nearest_modes(check, rng, nearest):
    x = rng.normal(size=(1, 1, 5, 7)).astype(np.float32)
    check(
        "Resize",
        {"x": x},
        opset=13,
        constants={"z": np.array([1, 1, 8, 3])},
        order=["x", "", "", "z"],
        nearest_mode=nearest,
    )


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("outside", [0, 1])
def test_resize_antialias(check, rng, mode, outside):
    x = rng.normal(size=(1, 1, 12, 9)).astype(np.float32)
    constants = {"z": np.array([1, 1, 5, 4])}
    check(
        "Resize",
        {"x": x},
        opset=18,
        constants=constants,
        order=["x", "", "", "z"],
        mode=mode,
        antialias=1,
        exclude_outside=outside,
    )


def test_resize_crop(check, rng):
    x = rng.normal(size=(1, 1, 6, 6)).astype(np.float32)
    constants = {
        "r": np.array([0, 0, 0.2, 0.3, 1, 1, 0.9, 1.2], np.float32),
        "z": np.array([1, 1, 4, 5]),
    }
    how = {
        "mode": "linear",
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.0,
    }
    check("Resize", {"x": x}, opset=13, constants=constants, order=["x", "r", "", "z"], **how)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_and_first_resize(check, rng, mode):
    x, scales = rng.normal(size=(1, 2, 3, 4)).astype(np.float32), [1.0, 1.0, 2.0, 3.0]
    check("Upsample", {"x": x}, opset=7, scales=scales, mode=mode)
    check("Upsample", {"x": x}, opset=9, constants={"s": np.array(scales, np.float32)}, mode=mode)
    check("Resize", {"x": x}, opset=10, constants={"s": np.array(scales, np.float32)}, mode=mode)


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample(check, rng, mode, padding):
    inputs = {
        "x": rng.normal(size=(1, 2, 5, 5)).astype(np.float32),
        "g": rng.uniform(-1.2, 1.2, (1, 4, 4, 2)).astype(np.float32),
    }
    check("GridSample", inputs, opset=20, mode=mode, padding_mode=padding)


def test_non_max_suppression(check, rng):
    corner = rng.uniform(0, 5, (2, 12, 2)).astype(np.float32)
    inputs = {
        "b": np.concatenate([corner, corner + 2], -1),
        "s": rng.uniform(size=(2, 3, 12)).astype(np.float32),
    }
    constants = {
        "m": np.array([3]),
        "i": np.array([0.3], np.float32),
        "t": np.array([0.2], np.float32),
    }
    check("NonMaxSuppression", inputs, opset=11, constants=constants)
