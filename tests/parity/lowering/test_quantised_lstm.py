"""DynamicQuantizeLSTM of onnxruntime beside what it is read as."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from cimrobust.onnx_io.lowering.lower_model import lower

STEPS, INPUTS, HIDDEN = 6, 5, 4
NAMES = ("x", "w", "r", "b", "", "h", "c", "p", "ws", "wz", "rs", "rz")

# float32 sums in another order; a state so near the middle between two levels that it is rounded
# the other way does not occur here.
TOLERANCE = 2e-5


def arrays(
    *,
    directions: int = 1,
    kind: type = np.int8,
    per_channel: bool = False,
    left_out: str = "",
    batch: int = 1,
) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(11)
    # Levels of 7 bits: on processors without VNNI, onnxruntime adds pairs of products of 8 bits in
    # 16 bits, which overflow.
    least, most = (-63, 64) if kind is np.int8 else (65, 192)
    shape = (directions, 4 * HIDDEN) if per_channel else (directions,)
    found = {
        "x": draw.normal(size=(STEPS, batch, INPUTS)).astype(np.float32),
        "w": draw.integers(least, most, (directions, INPUTS, 4 * HIDDEN)).astype(kind),
        "r": draw.integers(least, most, (directions, HIDDEN, 4 * HIDDEN)).astype(kind),
        "b": draw.normal(size=(directions, 8 * HIDDEN)).astype(np.float32),
        "h": draw.normal(size=(directions, batch, HIDDEN)).astype(np.float32),
        "c": draw.normal(size=(directions, batch, HIDDEN)).astype(np.float32),
        "p": draw.normal(size=(directions, 3 * HIDDEN)).astype(np.float32),
    }
    for name in ("ws", "rs"):
        found[name] = draw.uniform(0.005, 0.015, shape).astype(np.float32)
    for name in ("wz", "rz"):
        found[name] = np.full(shape, 0 if kind is np.int8 else 128, kind)
    return {name: value for name, value in found.items() if name not in left_out}


def check(same: Callable[..., Any], given: dict[str, np.ndarray], **attributes: Any) -> None:
    inputs = [name if name in given else "" for name in NAMES]
    pair = same(
        "DynamicQuantizeLSTM",
        inputs,
        given,
        outputs=("y", "last", "memory"),
        constants=[name for name in given if name != "x"],
        symbolic=False,
        tolerance=TOLERANCE,
        hidden_size=HIDDEN,
        **attributes,
    )
    assert {"Scan", "DynamicQuantizeLinear"} <= pair.operators


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_directions_and_scales(
    same: Callable[..., Any], direction: str, kind: type, per_channel: bool
) -> None:
    both = 2 if direction == "bidirectional" else 1
    check(
        same,
        arrays(directions=both, kind=kind, per_channel=per_channel, left_out="p"),
        direction=direction,
    )


@pytest.mark.parametrize("left_out", ["p", "hcp", "bp", "bhcp", ""])
def test_optional_inputs(same: Callable[..., Any], left_out: str) -> None:
    check(same, arrays(left_out=left_out))


@pytest.mark.parametrize(
    "how", [{"clip": 0.4}, {"input_forget": 1}, {"activations": ["Sigmoid", "Relu", "Tanh"]}]
)
def test_attributes(same: Callable[..., Any], how: dict[str, Any]) -> None:
    check(same, arrays(), **how)


def test_a_batch_shares_its_ranges(same: Callable[..., Any]) -> None:
    check(same, arrays(batch=3, left_out="p"))


@pytest.mark.parametrize(
    ("change", "how", "reason"),
    [
        ({"l": np.array([6], np.int32)}, {}, "sequences of different lengths"),
        (
            {},
            {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
            "activations must be Sigmoid, Tanh or Relu",
        ),
        (
            {"wz": np.arange(16, dtype=np.uint8)[None], "ws": np.full((1, 16), 0.1, np.float32)},
            {},
            "zero points must be all the same",
        ),
        ({"wz": np.zeros((1, 3), np.uint8)}, {}, "must fit weights of shape"),
    ],
)
def test_what_is_not_covered_is_refused(
    pair: Callable[..., Any], change: dict[str, np.ndarray], how: dict[str, Any], reason: str
) -> None:
    given = {**arrays(kind=np.uint8, left_out="p"), **change}
    inputs = [
        ("l" if index == 4 and "l" in change else name) if name in given or index == 4 else ""
        for index, name in enumerate(NAMES)
    ]
    made = pair(
        "DynamicQuantizeLSTM",
        inputs,
        given,
        opset=17,
        domain="com.microsoft",
        outputs=("y",),
        constants=[name for name in given if name != "x"],
        symbolic=False,
        attributes={"hidden_size": HIDDEN, **how},
    )
    assert made.original.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    refused = lower(made.original).refused
    assert len(refused) == 1
    assert reason in refused[0]
