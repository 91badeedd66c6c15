"""Convolutions: layouts of images, padding, groups, normalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

SIZE, CHANNELS, KERNELS, CLASSES, SAMPLES = 6, 2, 6, 5, 48
TOLERANCE = 0.08

_DRAW = np.random.default_rng(6)
WEIGHTS = {
    "k": _DRAW.normal(size=(KERNELS, CHANNELS, 3, 3)).astype(np.float32),
    "kb": _DRAW.normal(size=KERNELS).astype(np.float32),
    "w": _DRAW.normal(size=(KERNELS * SIZE * SIZE, CLASSES)).astype(np.float32),
    "scale": _DRAW.uniform(0.5, 2.0, KERNELS).astype(np.float32),
    "shift": _DRAW.normal(size=KERNELS).astype(np.float32),
    "mean": _DRAW.normal(size=KERNELS).astype(np.float32),
    "variance": _DRAW.uniform(0.5, 2.0, KERNELS).astype(np.float32),
}
X = _DRAW.normal(size=(SAMPLES, CHANNELS, SIZE, SIZE)).astype(np.float32)
CHANNELS_LAST = {"x": np.ascontiguousarray(X.transpose(0, 2, 3, 1))}


def text(
    body: str,
    *,
    shape: str = f"N, {CHANNELS}, {SIZE}, {SIZE}",
    out: str = f"N, {CLASSES}",
    opset: int = 17,
    **arrays: np.ndarray,
) -> onnx.ModelProto:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g (float[{shape}] x) => (float[{out}] y) {{'
        f" {body} }}"
    )
    read = {name for node in model.graph.node for name in node.input}
    arrays = {**WEIGHTS, **arrays}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in arrays.items() if name in read
    )
    return model


HEAD = "c = Conv<pads = [1, 1, 1, 1]>(x, k, kb) r = Relu(c)"


def plain() -> onnx.ModelProto:
    return text(f"{HEAD} f = Flatten(r) y = MatMul(f, w)")


def _decisions(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": X})[0]).argmax(1)


LABELS = _decisions(plain())


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def as_image_kernel() -> np.ndarray:
    """Return the last layer's weights as kernels that span the image."""
    return np.ascontiguousarray(WEIGHTS["w"].T.reshape(CLASSES, KERNELS, SIZE, SIZE))


def out_of_order_rows() -> np.ndarray:
    """Return the last layer's weights for features with the channels last."""
    return np.ascontiguousarray(
        WEIGHTS["w"]
        .reshape(KERNELS, SIZE, SIZE, CLASSES)
        .transpose(1, 2, 0, 3)
        .reshape(-1, CLASSES)
    )


SPELLINGS: dict[str, Callable[[], onnx.ModelProto]] = {
    "auto_pad": lambda: text(
        'c = Conv<auto_pad = "SAME_UPPER">(x, k, kb) r = Relu(c) f = Flatten(r) y = MatMul(f, w)'
    ),
    "a Pad of its own": lambda: text(
        "p = Pad(x, pads) c = Conv(p, k, kb) r = Relu(c) f = Flatten(r) y = MatMul(f, w)",
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
    ),
    "bias behind": lambda: text(
        "c = Conv<pads = [1, 1, 1, 1]>(x, k) b = Add(c, column) r = Relu(b) f = Flatten(r) y ="
        " MatMul(f, w)",
        column=WEIGHTS["kb"].reshape(1, KERNELS, 1, 1),
    ),
    "Reshape to a batch": lambda: text(f"{HEAD} f = Reshape(r, s) y = MatMul(f, w)", s=ints(0, -1)),
    "batch of 1, Reshape": lambda: text(
        f"{HEAD} f = Reshape(r, s) y = MatMul(f, w)",
        s=ints(1, KERNELS * SIZE * SIZE),
        shape=f"1, {CHANNELS}, {SIZE}, {SIZE}",
        out=f"1, {CLASSES}",
    ),
    "dense layer as Conv": lambda: text(
        f"{HEAD} z = Conv(r, image) y = Reshape(z, s)", image=as_image_kernel(), s=ints(0, CLASSES)
    ),
    "dense layer, channels last": lambda: text(
        f"{HEAD} t = Transpose<perm = [0, 2, 3, 1]>(r) f = Flatten(t) y = MatMul(f, rows)",
        rows=out_of_order_rows(),
    ),
    "the image sideways": lambda: text(
        "t = Transpose<perm = [0, 1, 3, 2]>(x) c = Conv<pads = [1, 1, 1, 1]>(t, turned, kb) u ="
        " Transpose<perm = [0, 1, 3, 2]>(c) r = Relu(u) f = Flatten(r) y = MatMul(f, w)",
        turned=np.ascontiguousarray(WEIGHTS["k"].transpose(0, 1, 3, 2)),
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_the_same_network(same: Callable[..., None], name: str) -> None:
    same("conv", plain, SPELLINGS[name](), {"x": X}, LABELS, tolerance=TOLERANCE)


def test_channels_last(same: Callable[..., None]) -> None:
    model = text(
        f"n = Transpose<perm = [0, 3, 1, 2]>(x) {HEAD.replace('(x,', '(n,')} f = Flatten(r) y ="
        " MatMul(f, w)",
        shape=f"N, {SIZE}, {SIZE}, {CHANNELS}",
    )
    same("conv", plain, model, CHANNELS_LAST, LABELS, tolerance=TOLERANCE, first_inputs={"x": X})


def test_classes_along_a_named_axis(same: Callable[..., None]) -> None:
    model = text(
        f"{HEAD} z = Conv(r, image) y = Identity(z)",
        image=as_image_kernel(),
        out=f"N, {CLASSES}, 1, 1",
    )
    same(
        "conv",
        plain,
        model,
        {"x": X},
        LABELS.reshape(-1, 1, 1),
        tolerance=TOLERANCE,
        first_labels=LABELS,
    )


NORMALISED = (
    "c = Conv<pads = [1, 1, 1, 1]>(x, k, kb) n = BatchNormalization(c, scale, shift, mean,"
    " variance) r = Relu(n) f = Flatten(r) y = MatMul(f, w)"
)


def test_a_folded_normalisation_is_another_network_for_the_box(read: Callable[..., object]) -> None:
    """The same function, but other stored weights: each channel's share of the range of its tensor
    changes, and with it the box.
    """
    factor = WEIGHTS["scale"] / np.sqrt(WEIGHTS["variance"] + 1e-5)
    folded = {
        "k": WEIGHTS["k"] * factor[:, None, None, None],
        "kb": (WEIGHTS["kb"] - WEIGHTS["mean"]) * factor + WEIGHTS["shift"],
    }
    labels = _decisions(text(NORMALISED))
    apart = read(text(NORMALISED), {"x": X}, labels, tolerance=TOLERANCE)
    together = read(
        text(f"{HEAD} f = Flatten(r) y = MatMul(f, w)", **folded),
        {"x": X},
        labels,
        tolerance=TOLERANCE,
    )
    assert apart.clean == together.clean  # type: ignore[attr-defined]
    assert [row[:4] for row in apart.layers] == [row[:4] for row in together.layers]  # type: ignore[attr-defined]
    assert apart.layers != together.layers  # type: ignore[attr-defined]


def test_a_normalisation_written_out_stays_the_same(same: Callable[..., None]) -> None:
    written = """c = Conv<pads = [1, 1, 1, 1]>(x, k, kb) d = Sub(c, m) e = Add(v, tiny) q = Sqrt(e) n0 = Div(d, q) n1 = Mul(n0, s) n = Add(n1, t)
        r = Relu(n) f = Flatten(r) y = MatMul(f, w)"""  # noqa: E501
    names = {"m": "mean", "v": "variance", "s": "scale", "t": "shift"}
    columns = {short: WEIGHTS[name].reshape(1, KERNELS, 1, 1) for short, name in names.items()}
    model = text(written, tiny=np.float32(1e-5), **columns)
    same(
        "normalised",
        lambda: text(NORMALISED),
        model,
        {"x": X},
        _decisions(text(NORMALISED)),
        tolerance=TOLERANCE,
    )
