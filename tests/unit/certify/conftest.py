"""Networks of many kinds, opened with their boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cimrobust.data.decision import Decision
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.placement import Placement
from tests.unit.search.conftest import opened  # noqa: F401

HEAD = (
    '<ir_version: 8, opset_import: ["" : 20]>\nnet (float[N, {shape}] x) => (float[N, {classes}] y)'
)

#: Body of the graph, shape of the input, shapes of the stored weights, shapes of digital constants.
NETWORKS: dict[
    str, tuple[str, tuple[int, ...], dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]
] = {
    "mlp": (
        (
            "h = Gemm<transB=1>(x, w1, b1) r = Relu(h) g = Gemm<alpha=1.5, beta=0.5>(r, w2, b2) s ="
            " Relu(g) y = MatMul(s, w3)"
        ),
        (6,),
        {"w1": (12, 6), "w2": (12, 10), "w3": (10, 4)},
        {"b1": (12,), "b2": (10,)},
    ),
    "cnn": (
        (
            "h = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(h) p = MaxPool<kernel_shape=[2,2],"
            " strides=[2,2]>(r) g = Conv<strides=[2,2], pads=[1,1,0,0]>(p, w2) s ="
            " LeakyRelu<alpha=0.1>(g) f = Flatten(s) y = Gemm(f, w3)"
        ),
        (2, 8, 8),
        {"w1": (4, 2, 3, 3), "w2": (6, 4, 3, 3), "w3": (24, 5)},
        {"b1": (4,)},
    ),
    "residual": (
        (
            "h = Conv<pads=[1,1,1,1]>(x, w1) n = BatchNormalization(h, gain, shift, mean, var) r ="
            " Relu(n) g = Conv<pads=[1,1,1,1], group=2>(r, w2) a = Add(g, r) s = Relu(a) p ="
            " GlobalAveragePool(s) f = Flatten(p) z = MatMul(f, w3) y = LogSoftmax<axis=1>(z)"
        ),
        (2, 5, 5),
        {"w1": (4, 2, 3, 3), "w2": (4, 2, 3, 3), "w3": (4, 3)},
        {"gain": (4,), "shift": (4,), "mean": (4,), "var": (4,)},
    ),
    "smooth": (
        (
            "h = Gemm(x, w1) t = Tanh(h) g = Gemm(t, w2) s = Gelu(g) i = Gemm(s, w3) k ="
            " HardSwish(i) l = Gemm(k, w4) m = Sigmoid(l) y = MatMul(m, w5)"
        ),
        (5,),
        {"w1": (5, 9), "w2": (9, 8), "w3": (8, 8), "w4": (8, 8), "w5": (8, 3)},
        {},
    ),
    "clipped": (
        (
            "c = Sub(x, mean) d = Mul(c, gain) h = Conv(d, w1) k = Clip(h, low, high) q ="
            " AveragePool<kernel_shape=[2], strides=[2]>(k) g = Conv<dilations=[2]>(q, w2) e ="
            " HardSigmoid(g) f = Flatten(e) z = MatMul(f, w3) y = Softmax(z)"
        ),
        (3, 12),
        {"w1": (6, 3, 3), "w2": (4, 6, 2), "w3": (12, 3)},
        {"mean": (1, 3, 1), "gain": (1,), "low": (), "high": ()},
    ),
    "sequence": (
        (
            "t = Transpose<perm=[0,2,1]>(x) h = MatMul(t, w1) r = Relu(h) g = MatMul(r, w2) s ="
            " Elu(g) m = ReduceMean<keepdims=0>(s, axes) y = Gemm(m, w3)"
        ),
        (4, 5),
        {"w1": (4, 7), "w2": (7, 6), "w3": (6, 3)},
        {},
    ),
    "attention": (
        (
            "q = MatMul(x, w1) k = MatMul(x, w2) v = MatMul(x, w3) t = Transpose<perm=[0,2,1]>(k) s"
            " = MatMul(q, t) c = Mul(s, half) a = Softmax<axis=-1>(c) o = MatMul(a, v) p = Add(o,"
            " x) g = Sigmoid(p) u = Mul(g, p) m = ReduceMean<keepdims=0>(u, axes) y = Gemm(m, w4)"
        ),
        (4, 5),
        {"w1": (5, 5), "w2": (5, 5), "w3": (5, 5), "w4": (5, 3)},
        {"half": ()},
    ),
    "transformer": (
        (
            "z = MatMul(x, w1) q, k, v = Split<axis=2, num_outputs=3>(z) t ="
            " Transpose<perm=[0,2,1]>(k) s = MatMul(q, t) c = Mul(s, half) d = Where(causal, c,"
            " far) a = Softmax<axis=-1>(d) o = MatMul(a, v) p = Add(o, x) n ="
            " LayerNormalization<axis=-1>(p, gain, shift) g = MatMul(n, w2) h = Gelu(g) u = Add(h,"
            " n) r = ReduceMean<keepdims=0>(u, axes) y = Gemm(r, w3)"
        ),
        (4, 5),
        {"w1": (5, 15), "w2": (5, 5), "w3": (5, 3)},
        {"half": (), "causal": (4, 4), "far": (), "gain": (5,), "shift": (5,)},
    ),
    "quantised": (
        (
            "q = QuantizeLinear(x, s1, z1) d = DequantizeLinear(q, s1, z1) h = Gemm(d, w1) p ="
            " QuantizeLinear(h, s2, z2) e = DequantizeLinear(p, s2, z2) k = Gemm(e, w2) o ="
            " QuantizeLinear(k, s3, z3) u = DequantizeLinear(o, s3, z3) a = Add(u, e) b ="
            " QuantizeLinear(a, s4, z4) c = DequantizeLinear(b, s4, z4) f = Relu(c) y ="
            " MatMul(f, w3)"
        ),
        (6,),
        {"w1": (6, 10), "w2": (10, 10), "w3": (10, 3)},
        {"s1": (), "s2": (), "s3": (), "s4": (), "z1": (), "z2": (), "z3": (), "z4": ()},
    ),
    "extremes": (
        (
            "h = Gemm(x, w1) g = Gemm(x, w2) m = Max(h, g) n = Min(m, high) a = Abs(n) r ="
            " Reshape(a, rows) t = ReduceMax<keepdims=0>(r, axes) u = ReduceMin<keepdims=0>(r,"
            " axes) d = Sub(g, h) c = Concat<axis=1>(t, u, d) y = Gemm(c, w3)"
        ),
        (5,),
        {"w1": (5, 12), "w2": (5, 12), "w3": (18, 3)},
        {"high": ()},
    ),
    "curves": (
        (
            "h = Gemm(x, w1) e = Exp(h) s = ReduceSum(e, axes) d = Div(e, s) l = Log(s) q = Mul(h,"
            " h) v = ReduceMean(q, axes) r = Sqrt(v) n = Div(h, r) i = Reciprocal(s) b ="
            " ReduceL2(e, axes) k = Div(low, b) o = Sin(h) t = Cos(n) z = Atan(t) c ="
            " Concat<axis=1>(d, l, r, z, i, o, k) y = Gemm(c, w2)"
        ),
        (5,),
        {"w1": (5, 8), "w2": (28, 3)},
        {"low": ()},
    ),
    "upsampled": (
        (
            "h = Conv(x, w1) n = InstanceNormalization(h, gain, shift) r = Relu(n) t ="
            " ConvTranspose<strides=[2,3], pads=[1,0,0,1], output_padding=[1,0], group=2,"
            " dilations=[1,2]>(r, w2, b2) g = GlobalMaxPool(t) k = GlobalAveragePool(t) a ="
            " Concat<axis=1>(g, k) f = Flatten(a) y = Gemm(f, w3)"
        ),
        (2, 5, 5),
        {"w1": (4, 2, 3, 3), "w2": (4, 3, 2, 2), "w3": (12, 3)},
        {"gain": (4,), "shift": (4,), "b2": (6,)},
    ),
    "detector": (
        (
            "h = Conv<pads=[1,1,1,1]>(x, w1) s = Sigmoid(h) a = Mul(h, s) p = MaxPool<kernel_shape="
            '[2,2], strides=[2,2]>(a) g = Conv(p, w2) r = Resize<nearest_mode="floor",'
            ' coordinate_transformation_mode="asymmetric">(g, , scales) c = Concat<axis=1>(r, a)'
            " z = Resize<axes=[2,3]>(c, , , sizes) k = Conv(z, w3) f = Flatten(k) y = Gemm(f, w4)"
        ),
        (2, 4, 6),
        {"w1": (3, 2, 3, 3), "w2": (4, 3, 1, 1), "w3": (2, 7, 1, 1), "w4": (48, 3)},
        {},
    ),
    "volumes": (
        (
            "h = Conv<pads=[1,1,1,1,1,1]>(x, w1) p = MaxPool<kernel_shape=[2,3,2], strides=[2,2,1],"
            " pads=[0,1,0,1,0,1]>(h) r = Reshape(p, rows) q = MaxPool<kernel_shape=[3,2],"
            " strides=[2,2], ceil_mode=1>(r) f = Flatten(q) y = Gemm(f, w2)"
        ),
        (1, 3, 4, 4),
        {"w1": (2, 1, 2, 3, 3), "w2": (8, 3)},
        {},
    ),
    "einsum": (
        (
            'h = Einsum<equation="nk,ekd->ned">(x, w1) r = Relu(h) g = Einsum<equation="nek,ekd'
            '->ned">(r, w2) s = Sigmoid(g) t = Einsum<equation="nef,ngf->nge">(s, g) f = Flatten(t)'
            " y = Gemm(f, w3)"
        ),
        (5,),
        {"w1": (3, 5, 6), "w2": (3, 6, 4), "w3": (9, 3)},
        {},
    ),
}
#: Steps and zero points of the quantised network: the second starts at zero, as a ReLU does; the
#: third clips.
QUANTISERS = {
    "s1": 0.03,
    "s2": 0.02,
    "s3": 0.03,
    "s4": 0.05,
    "z1": np.uint8(120),
    "z2": np.int8(-128),
    "z3": np.uint8(100),
    "z4": np.int8(3),
}


Maker = Callable[..., tuple[Runtime, Placement]]


def weights_of(name: str, seed: int) -> dict[str, np.ndarray]:
    """Return weights and constants of a network."""
    random = np.random.default_rng(seed)
    _body, _shape, stored, digital = NETWORKS[name]
    arrays = {
        key: (1.4 * random.normal(size=size) / np.sqrt(np.prod(size[1:]))).astype(np.float32)
        for key, size in stored.items()
    }
    for key, size in digital.items():
        arrays[key] = np.asarray(0.3 * random.normal(size=size), np.float32)
    special = {
        "var": lambda: np.full(4, 0.7, np.float32),
        "low": lambda: np.float32(0.0),
        "high": lambda: np.float32(1.0),
        "gain": None,
    }
    if name == "transformer":
        arrays |= {
            "causal": np.tri(4, dtype=bool),
            "far": np.asarray(np.finfo(np.float32).min),
            "half": np.asarray(0.5, np.float32),
        }
    if name == "attention":
        arrays["half"] = np.asarray(0.5, np.float32)
    if name == "quantised":
        arrays |= {
            key: np.asarray(QUANTISERS[key], getattr(QUANTISERS[key], "dtype", np.float32))
            for key in digital
        }
    for key in digital:
        if special.get(key) is not None:
            arrays[key] = np.asarray(special[key]())  # type: ignore[misc]
    if name == "extremes":
        arrays["rows"] = np.array([0, 4, 3], np.int64)
    if name == "detector":
        arrays["scales"] = np.array([1, 1, 2, 2], np.float32)
        arrays["sizes"] = np.array([3, 8], np.int64)
    if name == "volumes":
        arrays["rows"] = np.array([0, 2, -1, 4], np.int64)
    if name == "curves":
        arrays["low"] = np.ones((), np.float32)
    if "axes" in NETWORKS[name][0]:
        arrays["axes"] = np.array([1], np.int64)
    return arrays


def text_of(name: str, arrays: dict[str, np.ndarray]) -> str:
    """Return a network of `NETWORKS` as text, with these weights and constants declared."""
    body, shape, stored, _digital = NETWORKS[name]
    kinds = ", ".join(
        f"{'float' if a.dtype == np.float32 else a.dtype}[{', '.join(map(str, a.shape))}] {key}"
        for key, a in arrays.items()
    )
    head = HEAD.format(
        shape=", ".join(map(str, shape)), classes=next(reversed(stored.values()))[-1]
    )
    return f"{head} <{kinds.replace('[] ', ' ')}> {{ {body.replace(') ', ')' + chr(10))} }}"


@pytest.fixture
def make(opened: Callable[..., tuple[Runtime, Placement]]) -> Maker:  # noqa: F811
    """Open a network of `NETWORKS` on samples labelled with its own decisions."""

    def maker(
        name: str,
        *,
        seed: int = 0,
        count: int = 8,
        profile: DeviceProfile | None = None,
        decision: Decision | None = None,
    ) -> tuple[Runtime, Placement]:
        shape, arrays = NETWORKS[name][1], weights_of(name, seed)
        inputs = {
            "x": np.random.default_rng(seed + 100).normal(size=(count, *shape)).astype(np.float32)
        }
        return opened(text_of(name, arrays), arrays, inputs, decision=decision, profile=profile)

    return maker


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Keep torch to one thread: these networks are too small for more."""
    with one_torch_thread():
        yield
