"""Recurrent cells against onnxruntime, with plain products in place of crossbars."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from cimrobust.engine.cells import run_cell
from cimrobust.errors import ModelNotCoveredError

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": 3, "GRU": 2, "RNN": 1}
STEPS, BATCH, SIZE, HIDDEN = 5, 3, 4, 6


def arrays(op: str, directions: int, options: set[str], seed: int) -> list[np.ndarray | None]:
    rng = np.random.default_rng(seed)
    width = GATES[op] * HIDDEN

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    inputs: list[np.ndarray | None] = [
        draw(STEPS, BATCH, SIZE),
        draw(directions, width, SIZE),
        draw(directions, width, HIDDEN),
    ]
    inputs.append(draw(directions, 2 * width) if "B" in options else None)
    inputs.append(np.array([5, 2, 1], np.int32) if "lens" in options else None)
    inputs.append(draw(directions, BATCH, HIDDEN) if "h" in options else None)
    if op == "LSTM":
        inputs.append(draw(directions, BATCH, HIDDEN) if "c" in options else None)
        inputs.append(draw(directions, 3 * HIDDEN) if "P" in options else None)
    return inputs


def expected(
    op: str, inputs: list[np.ndarray | None], attributes: dict[str, Any]
) -> list[np.ndarray]:
    names = [f"i{slot}" if value is not None else "" for slot, value in enumerate(inputs)]
    outputs = ["y", "y_h", "y_c"][: 3 if op == "LSTM" else 2]
    node = helper.make_node(op, names, outputs, hidden_size=HIDDEN, **attributes)
    infos = [
        helper.make_tensor_value_info(name, 6 if value.dtype == np.int32 else 1, value.shape)
        for name, value in zip(names, inputs, strict=True)
        if value is not None
    ]
    graph = helper.make_graph(
        [node], "g", infos, [helper.make_tensor_value_info(name, 1, None) for name in outputs]
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 14)])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(
        session.run(
            None,
            {name: value for name, value in zip(names, inputs, strict=True) if value is not None},
        )
    )


def got(
    op: str, inputs: list[np.ndarray | None], attributes: dict[str, Any], directions: int
) -> tuple[np.ndarray, ...]:
    w, r = inputs[1], inputs[2]
    assert w is not None
    assert r is not None

    def product(weights: np.ndarray) -> Any:
        def multiply(direction: int, x: np.ndarray) -> np.ndarray:
            assert x.dtype == np.float32
            assert x.flags.c_contiguous
            assert x.ndim == 2
            return x @ weights[direction].T

        return multiply

    given = [*inputs[:1], None, None, *inputs[3:]]
    return run_cell(
        op,
        attributes,
        given,
        input_product=product(w),
        state_product=product(r),
        hidden_size=HIDDEN,
        num_directions=directions,
    )


OPTIONS = [set(), {"B"}, {"B", "h", "c"}, {"lens"}, {"B", "lens", "h", "c", "P"}]


@pytest.mark.parametrize(
    ("op", "direction", "options"),
    list(itertools.product(GATES, ["forward", "reverse", "bidirectional"], OPTIONS)),
)
def test_every_direction_and_input_equals_onnxruntime(op, direction, options):
    directions = 2 if direction == "bidirectional" else 1
    inputs = arrays(op, directions, options, 3)
    for output, reference in zip(
        got(op, inputs, {"direction": direction}, directions),
        expected(op, inputs, {"direction": direction}),
        strict=True,
    ):
        np.testing.assert_allclose(
            output, reference, rtol=1e-5, atol=2e-6
        )  # float32 sums of ten terms over five steps


ACTIVATIONS = [
    "Relu",
    "Tanh",
    "Sigmoid",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
]


@pytest.mark.parametrize(("op", "name"), list(itertools.product(GATES, ACTIVATIONS)))
def test_every_activation_equals_onnxruntime(op, name):
    count = max(
        DEFAULTS[op] - 1, 1
    )  # gates stay between 0 and 1, so that rounding errors do not grow from step to step
    attributes: dict[str, Any] = {
        "activations": ["Sigmoid"] * (DEFAULTS[op] - count) + [name] * count
    }
    if name in ("Affine", "ScaledTanh", "HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Elu"):
        attributes["activation_alpha"] = [0.3] * count
    if name in ("Affine", "ScaledTanh", "HardSigmoid"):
        attributes["activation_beta"] = [0.4] * count
    inputs = arrays(op, 1, {"B"}, 7)
    for output, reference in zip(
        got(op, inputs, attributes, 1), expected(op, inputs, attributes), strict=True
    ):
        np.testing.assert_allclose(
            output, reference, rtol=2e-5, atol=1e-5
        )  # onnxruntime approximates exponentials


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("LSTM", {"clip": 0.3}),
        ("LSTM", {"input_forget": 1}),
        ("GRU", {"clip": 0.3}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"linear_before_reset": 1, "clip": 0.5}),
        ("RNN", {"clip": 0.2}),
    ],
)
def test_other_attributes_equal_onnxruntime(op, attributes):
    inputs = arrays(op, 1, {"B", "h", "c"}, 11)
    for output, reference in zip(
        got(op, inputs, attributes, 1), expected(op, inputs, attributes), strict=True
    ):
        np.testing.assert_allclose(
            output, reference, rtol=1e-5, atol=2e-6
        )  # float32 sums of ten terms over five steps


def test_batch_first_is_the_same_transposed():
    inputs = arrays("LSTM", 2, {"B", "h", "c"}, 5)
    plain = got("LSTM", inputs, {"direction": "bidirectional"}, 2)
    turned = list(inputs)
    for slot in (0, 5, 6):
        turned[slot] = np.ascontiguousarray(np.swapaxes(np.asarray(inputs[slot]), 0, 1))
    y, h, c = got("LSTM", turned, {"direction": "bidirectional", "layout": 1}, 2)
    np.testing.assert_array_equal(y.transpose(1, 2, 0, 3), plain[0])
    np.testing.assert_array_equal(np.swapaxes(h, 0, 1), plain[1])
    np.testing.assert_array_equal(np.swapaxes(c, 0, 1), plain[2])


def test_unknown_activation_is_refused():
    with pytest.raises(ModelNotCoveredError, match="got 'Swish'"):
        got("RNN", arrays("RNN", 1, set(), 0), {"activations": ["Swish"]}, 1)
    with pytest.raises(ModelNotCoveredError, match="clip of a RNN node must be positive, got 0"):
        got("RNN", arrays("RNN", 1, set(), 0), {"clip": 0.0}, 1)
