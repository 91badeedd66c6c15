from __future__ import annotations

import itertools

import numpy as np
import pytest

PADS = [
    {"pads": [1, 1, 1, 1]},
    {"pads": [0, 1, 2, 1]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
    {"auto_pad": "NOTSET"},
]


STEPS = [([1, 1], [1, 1]), ([2, 3], [1, 1]), ([2, 1], [2, 1])]
# onnxruntime refuses SAME with dilations.
CONVS = [
    (pads, *steps)
    for pads in PADS
    for steps in STEPS
    if "SAME" not in pads.get("auto_pad", "") or steps[1] == [1, 1]
]


@pytest.mark.parametrize(("pads", "strides", "dilations"), CONVS)
def test_conv_paddings(check, rng, pads, strides, dilations):
    x, w = (
        rng.normal(size=(2, 3, 9, 8)).astype(np.float32),
        rng.normal(size=(4, 3, 3, 2)).astype(np.float32),
    )
    check(
        "Conv",
        {"x": x},
        constants={"w": w, "b": w[:, 0, 0, 0]},
        opset=11,
        strides=strides,
        dilations=dilations,
        **pads,
    )


@pytest.mark.parametrize("opset", [7, 11, 22])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_conv_ranks_and_groups(check, rng, opset, rank, group):
    x = rng.normal(size=(2, 4, *[7] * rank)).astype(np.float32)
    w = rng.normal(size=(8, 4 // group, *[3] * rank)).astype(np.float32)
    check(
        "Conv",
        {"x": x},
        constants={"w": w},
        opset=opset,
        group=group,
        kernel_shape=[3] * rank,
        atol=2e-5,
    )


TRANSPOSED = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"pads": [0, 1, 2, 1]},
    {"pads": [1, 0, 1, 1], "output_padding": [1, 0]},
    {"output_padding": [1, 1]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID"},
    {"output_shape": [9, 10]},
    {"output_shape": [8, 9], "auto_pad": "SAME_UPPER"},
    {"dilations": [2, 1]},
]


@pytest.mark.parametrize("how", TRANSPOSED)
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(check, rng, how, group):
    x, w = (
        rng.normal(size=(2, 4, 4, 5)).astype(np.float32),
        rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
    )
    bias = rng.normal(size=3 * group).astype(np.float32)
    check(
        "ConvTranspose",
        {"x": x},
        constants={"w": w, "b": bias},
        opset=11,
        strides=[2, 2],
        group=group,
        **how,
    )


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_transpose_ranks(check, rng, rank):
    x, w = (
        rng.normal(size=(1, 2, *[4] * rank)).astype(np.float32),
        rng.normal(size=(2, 3, *[3] * rank)).astype(np.float32),
    )
    check(
        "ConvTranspose",
        {"x": x},
        constants={"w": w},
        opset=11,
        strides=[2] * rank,
        pads=[1] * rank + [0] * rank,
    )


@pytest.mark.parametrize(("flip_a", "flip_b"), list(itertools.product([0, 1], repeat=2)))
@pytest.mark.parametrize("opset", [7, 9, 11, 13])
@pytest.mark.parametrize("bias", [(), (5,), (3, 1), (3, 5)])
def test_gemm(check, rng, flip_a, flip_b, opset, bias):
    a, b = (
        rng.normal(size=(4, 3) if flip_a else (3, 4)),
        rng.normal(size=(5, 4) if flip_b else (4, 5)),
    )
    constants = {"b": b.astype(np.float32), "c": rng.normal(size=bias).astype(np.float32)}
    check(
        "Gemm",
        {"a": a.astype(np.float32)},
        constants=constants,
        opset=opset,
        transA=flip_a,
        transB=flip_b,
        alpha=0.5,
        beta=2.0,
    )


def test_gemm_without_bias(check, rng):
    check(
        "Gemm",
        {"a": rng.normal(size=(3, 4)).astype(np.float32)},
        constants={"b": rng.normal(size=(4, 2)).astype(np.float32)},
        opset=11,
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)),
        ((3,), (3,)),
        ((2, 3), (3,)),
    ],
)
def test_matmul(check, rng, a, b):
    check(
        "MatMul",
        {"a": rng.normal(size=a).astype(np.float32)},
        constants={"b": rng.normal(size=b).astype(np.float32)},
        opset=9,
    )


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "ij,jk->ki", "...ij,jk->...ik"])
def test_einsum(check, rng, equation):
    shape = (3, 4) if equation.startswith("ij") else (2, 3, 4)
    other = (2, 4, 5) if equation.startswith("b") else (4, 5)
    inputs = {
        "a": rng.normal(size=shape).astype(np.float32),
        "b": rng.normal(size=other).astype(np.float32),
    }
    check("Einsum", inputs, opset=12, equation=equation)


def test_microsoft_fused_products(check, rng):
    a, b = (
        rng.normal(size=(2, 4, 3)).astype(np.float32),
        rng.normal(size=(2, 5, 4)).astype(np.float32),
    )
    check(
        "FusedMatMul",
        {"a": a, "b": b},
        opset=17,
        domain="com.microsoft",
        transA=1,
        transB=1,
        alpha=0.25,
    )
    constants = {"b": b[0].T.copy(), "c": b[0, :, 0]}
    check(
        "FusedGemm",
        {"a": a[0].T.copy()},
        constants=constants,
        opset=17,
        domain="com.microsoft",
        activation="LeakyRelu",
        activation_alpha=0.2,
    )


@pytest.mark.parametrize(
    "activation",
    [("Relu", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.3, 0.4])],
)
def test_microsoft_fused_conv(check, rng, activation):
    x, w = (
        rng.normal(size=(1, 3, 6, 6)).astype(np.float32),
        rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
    )
    name, parameters = activation
    check(
        "FusedConv",
        {"x": x},
        constants={"w": w, "b": w[:, 0, 0, 0]},
        opset=11,
        domain="com.microsoft",
        activation=name,
        activation_params=parameters,
    )
