"""Fused layers, layers of other layouts and operators under other names, as standard nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Same = Callable[..., object]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("activation", "params"),
    [
        ("Relu", []),
        ("Sigmoid", []),
        ("Tanh", []),
        ("LeakyRelu", [0.2]),
        ("Clip", [-0.5, 0.7]),
        ("HardSigmoid", [0.3, 0.4]),
    ],
)
@pytest.mark.parametrize("inputs", ["xw", "xwb", "xwbz"])
def test_conv(
    same: Same, rng: np.random.Generator, activation: str, params: list[float], inputs: str
) -> None:
    arrays = {
        "x": normal(rng, 2, 4, 6, 6),
        "w": normal(rng, 6, 2, 3, 3),
        "b": normal(rng, 6),
        "z": normal(rng, 2, 6, 3, 3),
    }
    arrays = {name: arrays[name] for name in inputs}
    settings = {"activation": activation, "group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1]} | (
        {"activation_params": params} if params else {}
    )
    same("FusedConv", list(arrays), arrays, constants=["w"], **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "Relu"},
        {"activation": "Tanh"},
        {"activation": "LeakyRelu", "activation_alpha": 0.3},
        {"activation": "Sigmoid"},
    ],
)
@pytest.mark.parametrize("flips", [0, 1])
def test_gemm(
    same: Same, rng: np.random.Generator, settings: dict[str, object], flips: int
) -> None:
    arrays = {
        "x": normal(rng, 5, 4),
        "w": normal(rng, *((3, 4) if flips else (4, 3))),
        "b": normal(rng, 3),
    }
    same("FusedGemm", list(arrays), arrays, transB=flips, alpha=0.5, beta=2.0, **settings)


@pytest.mark.parametrize("left", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("right", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_matmul(
    same: Same, rng: np.random.Generator, left: tuple[int, int], right: tuple[int, int]
) -> None:
    a, b = normal(rng, 2, 3, 4, 5), normal(rng, 2, 3, 5, 6)
    a, b = (turned(array, *flags) for array, flags in ((a, left), (b, right)))
    settings = {
        "transA": left[0],
        "transBatchA": left[1],
        "transB": right[0],
        "transBatchB": right[1],
    }
    same("FusedMatMul", ["a", "b"], {"a": a, "b": b}, alpha=0.7, twin=False, **settings)


def turned(array: np.ndarray, flips: int, moves: int) -> np.ndarray:
    """Undo what the attributes of a node do to [..., rows, columns]."""
    array = array.swapaxes(-1, -2) if flips else array
    return np.ascontiguousarray(np.moveaxis(array, -2, 0) if moves else array)


@pytest.mark.parametrize("rank", [2, 3])
def test_transpose_matmul(same: Same, rng: np.random.Generator, rank: int) -> None:
    arrays = {"a": normal(rng, *(2,) * (rank - 2), 3, 4), "b": normal(rng, 5, 4)}
    same("TransposeMatMul", list(arrays), arrays, transB=1, constants=["b"])


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("scales", [1, 4])
def test_quantised_conv(
    same: Same, rng: np.random.Generator, channels_last: int, scales: int
) -> None:
    shape = (2, 6, 6, 3) if channels_last else (2, 3, 6, 6)
    arrays = {
        "x": rng.integers(0, 128, shape).astype(np.uint8),  # no sums of pairs beyond 16 bits
        "xs": np.float32(0.1),
        "xz": np.uint8(60),
        "w": rng.integers(-60, 60, (4, 3, 3, 3)).astype(np.int8),
        "ws": rng.uniform(0.01, 0.1, scales).astype(np.float32),
        "wz": np.zeros(scales, np.int8),
        "ys": np.float32(0.9),
        "yz": np.uint8(100),
        "b": rng.integers(-100, 100, 4).astype(np.int32),
    }
    constants = [name for name in arrays if name != "x"]
    given = {name: np.asarray(value) for name, value in arrays.items()}
    same(
        "QLinearConv",
        list(arrays),
        given,
        constants=constants,
        channels_last=channels_last,
        pads=[1, 1, 1, 1],
        tolerance=0,
        twin=False,
    )


def test_max_pool_of_channels_last(same: Same, rng: np.random.Generator) -> None:
    arrays = {"x": rng.integers(0, 255, (2, 6, 6, 3)).astype(np.uint8)}
    same(
        "NhwcMaxPool",
        ["x"],
        arrays,
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        tolerance=0,
        twin=False,
    )


@pytest.mark.parametrize("opset", [14, 21])
@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(same: Same, rng: np.random.Generator, upper: int, opset: int) -> None:
    same(
        "Trilu",
        ["x", "k"],
        {"x": normal(rng, 4, 5), "k": np.asarray(1, np.int64)},
        upper=upper,
        constants=["k"],
        opset=opset,
    )


@pytest.mark.parametrize("limits", [(1.0, 7.0, 2.0), (0, 5)])
def test_range(same: Same, limits: tuple[float, ...]) -> None:
    kind = np.float32 if isinstance(limits[0], float) else np.int64
    arrays = {name: np.asarray([value], kind) for name, value in zip("abc", limits, strict=False)}
    same("Range", list(arrays), arrays)


@pytest.mark.parametrize("axis", [0, 2, -1])
@pytest.mark.parametrize("opset", [11, 17])
def test_expand_dims(same: Same, rng: np.random.Generator, axis: int, opset: int) -> None:
    same(
        "ExpandDims",
        ["x", "axis"],
        {"x": normal(rng, 3, 4), "axis": np.asarray(axis, np.int32)},
        constants=["axis"],
        opset=opset,
    )


def test_gather_nd(same: Same, rng: np.random.Generator) -> None:
    same(
        "GatherND",
        ["x", "at"],
        {"x": normal(rng, 3, 4, 2), "at": np.asarray([[0, 1], [2, 3]])},
        symbolic=False,
    )


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pad(same: Same, rng: np.random.Generator, mode: str) -> None:
    arrays = {"x": normal(rng, 3, 4), "pads": np.asarray([1, 0, 2, 1]), "value": np.float32([0.5])}
    names = ["x", "pads", "value"] if mode == "constant" else ["x", "pads"]
    same("Pad", names, {name: arrays[name] for name in names}, mode=mode, constants=["pads"])


@pytest.mark.parametrize("opset", [16, 20])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(same: Same, rng: np.random.Generator, mode: str, opset: int) -> None:
    arrays = {
        "x": normal(rng, 2, 3, 5, 5),
        "grid": rng.uniform(-1, 1, (2, 4, 4, 2)).astype(np.float32),
    }
    same(
        "GridSample",
        ["x", "grid"],
        arrays,
        mode=mode,
        padding_mode="border",
        align_corners=1,
        opset=opset,
    )


@pytest.mark.parametrize(
    ("op", "settings"),
    [
        ("Affine", {"alpha": 0.5, "beta": 2.0}),
        ("Scale", {"scale": 0.5}),
        ("ScaledTanh", {"alpha": 0.5, "beta": 2.0}),
        ("ParametricSoftplus", {"alpha": 0.5, "beta": 2.0}),
    ],
)
def test_operators_that_the_standard_once_had(
    same: Same, rng: np.random.Generator, op: str, settings: dict[str, float]
) -> None:
    same(op, ["x"], {"x": normal(rng, 3, 4)}, domain="", opset=9, **settings)


def test_image_scaler(same: Same, rng: np.random.Generator) -> None:
    same(
        "ImageScaler",
        ["x"],
        {"x": normal(rng, 2, 3, 4, 4)},
        domain="",
        opset=9,
        scale=0.5,
        bias=[1.0, 2.0, 3.0],
    )
