from __future__ import annotations

import numpy as np
import pytest

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize("opset", [7, 11, 13, 19, 21, 23])
@pytest.mark.parametrize("shape", [(6, 4), (0, -1), (-1,), (2, 0, 1, 4)])
def test_reshape(check, opset, shape):
    check("Reshape", {"x": X}, constants={"s": ints(*shape)}, opset=opset)


def test_reshape_allowzero(check):
    check("Reshape", {"x": X[:, :0]}, constants={"s": ints(0, 5)}, opset=14, allowzero=1)


# Negative axes are new in opset 11.
FLATTENS = [
    (opset, axis)
    for opset in (7, 9, 11, 13, 21)
    for axis in (None, 0, 1, 2, 3, -1)
    if axis != -1 or opset >= 11
]


@pytest.mark.parametrize(("opset", "axis"), FLATTENS)
def test_flatten(check, opset, axis):
    check("Flatten", {"x": X}, opset=opset, axis=axis)


@pytest.mark.parametrize("perm", [None, [0, 2, 1], [2, 0, 1]])
def test_transpose(check, perm):
    check("Transpose", {"x": X}, opset=13, perm=perm)


@pytest.mark.parametrize("opset", [7, 11, 13, 21])
@pytest.mark.parametrize("op", ["Squeeze", "Unsqueeze"])
def test_axes_by_attribute_and_input(check, opset, op):
    x = X.reshape(2, 1, 12, 1) if op == "Squeeze" else X
    if opset < 13:
        check(op, {"x": x}, opset=opset, axes=[1, 3])
    else:
        check(op, {"x": x}, opset=opset, constants={"a": ints(-1, 1)})


def test_squeeze_all(check):
    check("Squeeze", {"x": X.reshape(1, 24, 1)}, opset=13)


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 1), (5, 1, 3, 1)])
def test_expand(check, shape):
    check("Expand", {"x": X[:1, :, :1].copy()}, constants={"s": ints(*shape)}, opset=8)


def test_tile(check):
    check("Tile", {"x": X}, constants={"r": ints(2, 1, 3)}, opset=13)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(check, axis):
    check("Concat", {"a": X, "b": X * 2}, opset=11 if axis < 0 else 7, axis=axis)


@pytest.mark.parametrize("opset", [7, 11, 13, 18])
@pytest.mark.parametrize("sizes", [None, [1, 3]])
def test_split(check, opset, sizes):
    if opset < 13:
        check("Split", {"x": X}, opset=opset, outputs=["a", "b"], axis=2, split=sizes)
    elif sizes:
        check(
            "Split",
            {"x": X},
            opset=opset,
            outputs=["a", "b"],
            axis=2,
            constants={"s": ints(*sizes)},
        )
    else:
        check(
            "Split",
            {"x": X},
            opset=opset,
            outputs=["a", "b"],
            axis=2,
            num_outputs=2 if opset == 18 else None,
        )


def test_split_into_uneven_parts(check):
    check("Split", {"x": X}, opset=18, outputs=["a", "b", "c"], axis=2, num_outputs=3)


@pytest.mark.parametrize("bounds", [{}, {"start": 1}, {"start": -2, "end": -1}])
def test_shape_slices(check, bounds):
    check("Shape", {"x": X}, opset=15, **bounds)


def test_size(check):
    check("Size", {"x": X}, opset=13)


@pytest.mark.parametrize("opset", [7, 9, 13, 19, 21])
@pytest.mark.parametrize("to", [1, 6, 7, 9, 10, 11])
def test_cast(check, opset, to):
    check("Cast", {"x": X - 7.5}, opset=opset, to=to, rtol=1e-3)


def test_cast_like(check):
    check("CastLike", {"x": X, "like": ints(1)}, opset=15)


@pytest.mark.parametrize("opset", [7, 10])
def test_dropout_of_old_opsets(check, opset):
    check("Dropout", {"x": X}, opset=opset, ratio=0.4)


def test_dropout_mask_is_ones(check):
    check("Dropout", {"x": X}, opset=13, outputs=["y", "mask"], constants={"r": np.float32(0.4)})


SLICES = [
    ((1,), (3,), (1,), None),
    ((0, 1), (2, 4), (0, 2), None),
    ((-1,), (-100,), (2,), (-2,)),
    ((1,), (2**62,), (2,), (2,)),
    ((-3,), (-1,), (-1,), None),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
def test_slice_by_input(check, starts, ends, axes, steps):
    constants = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes)} | (
        {} if steps is None else {"t": ints(*steps)}
    )
    for opset in (10, 11, 13):
        check("Slice", {"x": X}, opset=opset, constants=constants)


@pytest.mark.parametrize("axes", [None, [1, 2]])
def test_slice_by_attribute(check, axes):
    check("Slice", {"x": X}, opset=9, starts=[0, 1], ends=[2, -1], axes=axes)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("opset", [7, 11, 13, 18, 19])
def test_pad(check, mode, opset):
    pads = [0, 1, 2, 1, 0, 3]
    if opset < 11:
        check("Pad", {"x": X}, opset=opset, pads=pads, mode=mode, value=1.5)
    else:
        check(
            "Pad",
            {"x": X},
            opset=opset,
            constants={"p": ints(*pads), "v": np.float32(1.5)},
            mode=mode,
        )


def test_pad_crops_where_negative(check):
    check("Pad", {"x": X}, opset=13, constants={"p": ints(0, -1, 2, 0, 1, -2), "v": np.float32(-1)})


def test_pad_along_axes_and_round(check):
    check(
        "Pad",
        {"x": X},
        opset=19,
        constants={"p": ints(3, 2), "v": np.float32(0), "a": ints(-1)},
        mode="wrap",
    )


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_and_back(check, rng, mode):
    check(
        "DepthToSpace",
        {"x": rng.normal(size=(2, 8, 3, 2)).astype(np.float32)},
        opset=11,
        blocksize=2,
        mode=mode,
    )
    check(
        "SpaceToDepth",
        {"x": rng.normal(size=(2, 2, 6, 4)).astype(np.float32)},
        opset=11,
        blocksize=2,
    )


def test_constant_of_shape_and_range(check):
    check("ConstantOfShape", {"s": ints(2, 3)}, opset=9)
    check("Range", {"a": np.asarray(3), "b": np.asarray(11), "c": np.asarray(2)}, opset=11)
    check(
        "Range",
        {
            name: np.asarray(value, np.float32)
            for name, value in (("a", 1.0), ("b", -2.3), ("c", -0.5))
        },
        opset=11,
    )


@pytest.mark.parametrize("k", [-1, 0, 2])
def test_trilu_and_eye(check, k):
    check("Trilu", {"x": X}, opset=14, constants={"k": np.int64(k)}, upper=int(k > 0))
    check("EyeLike", {"x": X[0]}, opset=9, k=k)
