from __future__ import annotations

import numpy as np
import pytest

OPSETS = (7, 9, 11, 13, 14, 18, 21)
UNARY = {
    "Abs": 7,
    "Neg": 7,
    "Exp": 7,
    "Sqrt": 7,
    "Reciprocal": 7,
    "Sin": 7,
    "Cos": 7,
    "Tan": 7,
    "Atan": 7,
    "Sigmoid": 7,
    "Tanh": 7,
    "Relu": 7,
    "Softplus": 7,
    "Softsign": 7,
    "Erf": 9,
    "Sign": 9,
    "Sinh": 9,
    "Asinh": 9,
    "Floor": 7,
    "Ceil": 7,
    "Round": 11,
    "HardSwish": 14,
    "Mish": 18,
    "Log": 7,
    "Identity": 7,
}


@pytest.mark.parametrize(
    ("op", "opset"),
    [(op, opset) for op, since in UNARY.items() for opset in OPSETS if opset >= since],
)
def test_unary_operators_agree(check, rng, op, opset):
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    check(op, {"x": abs(x) + 0.1 if op in ("Sqrt", "Log") else x * 3}, opset=opset)


@pytest.mark.parametrize("opset", [7, 13, 14, 21])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_arithmetic_broadcasts(check, rng, op, opset):
    a = np.abs(rng.normal(size=(2, 3, 4)).astype(np.float32)) + 0.5
    check(op, {"a": a, "b": a[0, :, :1]}, opset=opset, rtol=1e-4)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_integer_arithmetic_truncates(check, op):
    check(op, {"a": np.array([7, -7, 5], np.int64), "b": np.array([2, 2, -3], np.int64)}, opset=13)


# Equal takes floating-point numbers from opset 11 on.
COMPARISONS = {"Greater": 9, "Less": 9, "Equal": 11, "GreaterOrEqual": 12, "LessOrEqual": 12}


@pytest.mark.parametrize(
    ("op", "opset"),
    [
        (op, opset)
        for op, since in COMPARISONS.items()
        for opset in (9, 11, 13, 16, 19)
        if opset >= since
    ],
)
def test_comparisons_agree(check, op, opset):
    check(
        op,
        {"a": np.array([1.0, 2, 3], np.float32), "b": np.array([[2.0], [3]], np.float32)},
        opset=opset,
    )


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic_agrees(check, op):
    check(op, {"a": np.array([True, True, False]), "b": np.array([[True], [False]])}, opset=7)


@pytest.mark.parametrize("fmod", [0, 1])
def test_mod_signs(check, fmod):
    check(
        "Mod",
        {"a": np.array([-7, 7, -5], np.int64), "b": np.array([3, -3, 5], np.int64)},
        opset=13,
        fmod=fmod,
    )


@pytest.mark.parametrize("opset", [8, 12, 13])
@pytest.mark.parametrize("op", ["Sum", "Max", "Min", "Mean"])
def test_variadic_operators_broadcast(check, rng, op, opset):
    a = rng.normal(size=(2, 3)).astype(np.float32)
    check(op, {"a": a, "b": a[:1] * 2, "c": a[:, :1]}, opset=opset)


@pytest.mark.parametrize("opset", [7, 9, 10])
@pytest.mark.parametrize(
    "bounds", [{"min": -0.5}, {"max": 0.5}, {"min": 0.0}, {"min": -1.0, "max": 1.0}, {}]
)
def test_clip_with_attributes(check, rng, opset, bounds):
    check("Clip", {"x": rng.normal(size=9).astype(np.float32)}, opset=opset, **bounds)


@pytest.mark.parametrize("opset", [11, 12, 13, 21])
@pytest.mark.parametrize("order", [["x"], ["x", "low"], ["x", "", "high"], ["x", "low", "high"]])
def test_clip_with_inputs_that_may_be_left_out(check, rng, opset, order):
    constants = {
        name: np.float32(value) for name, value in (("low", -0.5), ("high", 0.25)) if name in order
    }
    check(
        "Clip",
        {"x": rng.normal(size=9).astype(np.float32)},
        opset=opset,
        constants=constants,
        order=order,
    )


def test_clip_with_computed_bounds(check, rng):
    inputs = {
        "x": rng.normal(size=9).astype(np.float32),
        "low": np.float32(-0.25),
        "high": np.float32(0.5),
    }
    check("Clip", {name: np.asarray(value) for name, value in inputs.items()}, opset=13)


ACTIVATIONS = [
    ("LeakyRelu", {"alpha": 0.3}, 7),
    ("LeakyRelu", {}, 16),
    ("Elu", {"alpha": 0.7}, 7),
    ("Celu", {"alpha": 2.0}, 12),
    ("Selu", {}, 7),
    ("Selu", {"alpha": 2.0, "gamma": 3.0}, 7),
    ("ThresholdedRelu", {"alpha": 0.3}, 10),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, 7),
    ("Shrink", {"bias": 0.2, "lambd": 0.3}, 9),
    ("Gelu", {}, 20),
    ("Gelu", {"approximate": "tanh"}, 20),
    ("IsNaN", {}, 13),
    ("IsInf", {}, 10),
    ("IsInf", {"detect_negative": 0}, 20),
]


@pytest.mark.parametrize(("op", "attributes", "opset"), ACTIVATIONS)
def test_activations_agree(check, rng, op, attributes, opset):
    x = rng.normal(size=(3, 5)).astype(np.float32) * 2
    if op.startswith("Is"):
        x[0, :3] = np.inf, -np.inf, np.nan
    check(op, {"x": x}, opset=opset, **attributes)


@pytest.mark.parametrize("opset", [7, 9, 16])
def test_prelu_broadcasts_its_slope(check, rng, opset):
    check(
        "PRelu",
        {"x": rng.normal(size=(2, 3, 4)).astype(np.float32)},
        constants={"s": np.array([[0.1], [0.2], [0.3]], np.float32)},
        opset=opset,
    )


@pytest.mark.parametrize("opset", [7, 11, 12, 13, 21])
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_of_old_and_new_opsets(check, rng, op, opset, axis):
    check(op, {"x": rng.normal(size=(2, 3, 4)).astype(np.float32)}, opset=opset, axis=axis)


@pytest.mark.parametrize("opset", [9, 16])
def test_where(check, rng, opset):
    a = rng.normal(size=(3, 4)).astype(np.float32)
    check("Where", {"c": a > 0, "a": a, "b": a[:1] * 2}, opset=opset)


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bit_shift_cuts_at_the_type(check, direction):
    check(
        "BitShift",
        {"a": np.array([200, 3], np.uint8), "b": np.array([1, 2], np.uint8)},
        opset=11,
        direction=direction,
    )


@pytest.mark.parametrize(
    ("op", "attributes"), [("Gelu", {}), ("QuickGelu", {"alpha": 1.5}), ("FastGelu", {})]
)
def test_microsoft_activations(check, rng, op, attributes):
    check(
        op,
        {"x": rng.normal(size=(3, 4)).astype(np.float32)},
        opset=17,
        domain="com.microsoft",
        atol=1e-4,
        **attributes,
    )


def test_microsoft_bias_gelu(check, rng):
    x = rng.normal(size=(3, 4)).astype(np.float32)
    check("BiasGelu", {"x": x}, constants={"b": x[0]}, opset=17, domain="com.microsoft", atol=1e-4)
