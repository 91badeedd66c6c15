"""Rules for operators that no network of `NETWORKS` has: slopes a channel, stored weights in
another type.
"""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.certify.refusal import Refusal
from tests.unit.certify.attack import PerInputAttack
from tests.unit.certify.test_soundness import random_chips
from tests.unit.search.conftest import Opener

HEAD = '<ir_version: 8, opset_import: ["" : 13]> net '
CNN = (
    HEAD
    + "(float[N, 2, 5, 5] x) => (float[N, 3] y) <float[4, 2, 3, 3] w, float[36, 3] v, float[4, 1,"
    " 1] s, float[1] t> "
    + "{ h = Conv(x, w)\n r = PRelu(h, s)\n f = Flatten(r)\n z = MatMul(f, v)\n y = PRelu(z, t) }"
)
CASTS = (
    HEAD
    + "({kind}[N, 6] x) => ({kind}[N, 4] y) <{stored}[6, 12] w, {stored}[12, 4] v> "
    + "{{ a = Cast<to = {to}>(w)\n b = Cast<to = {to}>(v)\n h = MatMul(x, a)\n r = Relu(h)\n y ="
    " MatMul(r, b) }}"
)


def arrays(dtype: type, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    return {
        name: (random.normal(size=shape) / np.sqrt(shape[0])).astype(dtype)
        for name, shape in shapes.items()
    }


def check_sound(
    opened: Opener,
    text: str,
    weights: dict[str, np.ndarray],
    x: np.ndarray | dict[str, np.ndarray],
) -> None:
    runtime, placement = opened(text, weights, x if isinstance(x, dict) else {"x": x})
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    sizes = largest_certified_tolerance(network)
    assert (sizes > 0).sum() >= 6
    attack = PerInputAttack(runtime, placement, network=network)
    for sample in np.flatnonzero(sizes > 0):
        chip = attack.worst(int(sample), float(sizes[sample]))[1]
        for chosen in (chip, *random_chips(placement, float(sizes[sample]), 4)):
            output = runtime.plain.run(
                chosen, {key: array[[sample]] for key, array in runtime.dataset.inputs.items()}
            )
            assert output[0].argmax() == runtime.task.labels[sample]
    linear, interval = certify(network).margin, certify(network, method="interval").margin
    assert (linear >= interval).all()
    assert linear.sum() > interval.sum()


def test_slopes_a_channel(opened: Opener) -> None:
    weights = arrays(np.float32, w=(4, 2, 3, 3), v=(36, 3))
    weights |= {
        "s": np.array([0.0, 0.2, 0.7, 1.0], np.float32).reshape(4, 1, 1),
        "t": np.array([0.3], np.float32),
    }
    check_sound(
        opened, CNN, weights, np.random.default_rng(2).normal(size=(8, 2, 5, 5)).astype(np.float32)
    )


def test_slopes_above_one_are_refused(opened: Opener) -> None:
    weights = arrays(np.float32, w=(4, 2, 3, 3), v=(36, 3)) | {
        "s": np.full((4, 1, 1), 1.5, np.float32),
        "t": np.ones(1, np.float32),
    }
    refused = open_bounds(*opened(CNN, weights, {"x": np.ones((4, 2, 5, 5), np.float32)}))
    assert isinstance(refused, Refusal)
    assert "slopes are not constants between 0 and 1" in refused.reason


@pytest.mark.parametrize(
    ("kind", "stored", "to"),
    [("float", "float16", 1), ("double", "float", 11), ("float", "double", 1)],
)
def test_weights_of_another_type(opened: Opener, kind: str, stored: str, to: int) -> None:
    dtypes = {"float": np.float32, "double": np.float64, "float16": np.float16}
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(dtypes[kind])
    check_sound(
        opened,
        CASTS.format(kind=kind, stored=stored, to=to),
        arrays(dtypes[stored], w=(6, 12), v=(12, 4)),
        x,
    )


def test_products_in_half_precision_are_refused(opened: Opener) -> None:
    text = CASTS.format(kind="float16", stored="float", to=10)
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float16)
    refused = open_bounds(*opened(text, arrays(np.float32, w=(6, 12), v=(12, 4)), {"x": x}))
    assert isinstance(refused, Refusal)
    assert "rounds to a narrower type" in refused.reason


POOLED = (
    HEAD.replace("13", "18")
    + "(float[N, 2, 6, 6] x) => (float[N, 3] y) <float[4, 2, 3, 3] w, float[{rows}, 3] v> "
    + "{{ h = Conv(x, w)\n p = {pool}(h)\n f = Flatten(p)\n y = MatMul(f, v) }}"
)


@pytest.mark.parametrize(
    ("pool", "rows"),
    [
        ("LpPool <kernel_shape = [2, 2], strides = [2, 2]>", 16),
        ("LpPool <kernel_shape = [3, 3], p = 1, pads = [1, 1, 1, 1]>", 64),
        ("LpPool <kernel_shape = [2, 2], dilations = [2, 2], pads = [1, 1, 1, 1]>", 64),
        ("GlobalLpPool", 4),
        ("GlobalLpPool <p = 1>", 4),
        ("AveragePool <kernel_shape = [4, 4], pads = [1, 1, 2, 2]>", 64),
    ],
)
def test_pools_of_magnitudes_and_squares(opened: Opener, pool: str, rows: int) -> None:
    weights = arrays(np.float32, w=(4, 2, 3, 3), v=(rows, 3))
    x = np.random.default_rng(2).normal(size=(8, 2, 6, 6)).astype(np.float32)
    check_sound(opened, POOLED.format(pool=pool, rows=rows), weights, x)


@pytest.mark.parametrize("order", [1, 2])
def test_rows_over_their_norms(opened: Opener, order: int) -> None:
    text = (
        HEAD
        + "(float[N, 6] x) => (float[N, 4] y) <float[6, 12] w, float[12, 4] v> "
        + f"{{ h = MatMul(x, w)\n n = LpNormalization<axis = 1, p = {order}>(h)\n"
        + " y = MatMul(n, v) }"
    )
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)
    check_sound(opened, text, arrays(np.float32, w=(6, 12), v=(12, 4)), x)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("p = LpPool <kernel_shape = [2, 2], p = 3>(h)", "its order is 3, not 1 or 2"),
        (
            "p = LpPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(h)",
            "its last windows may reach over the edge",
        ),
    ],
)
def test_other_pools_of_powers_are_refused(opened: Opener, body: str, reason: str) -> None:
    text = (
        HEAD.replace("13", "18")
        + "(float[N, 2, 6, 6] x) => (float[N, 4] y) <float[4, 2, 3, 3] w> "
        + f"{{ h = Conv(x, w)\n {body}\n m = GlobalMaxPool(p)\n y = Flatten(m) }}"
    )
    weights = arrays(np.float32, w=(4, 2, 3, 3))
    refused = open_bounds(*opened(text, weights, {"x": np.ones((4, 2, 6, 6), np.float32)}))
    assert isinstance(refused, Refusal)
    assert reason in refused.reason


def test_one_position_of_each_sample_by_an_index_among_the_inputs(opened: Opener) -> None:
    text = (
        HEAD
        + "(float[N, 5, 6] x, int64[N] at) => (float[N, 4] y) <float[6, 12] w, float[12, 4] v,"
        + " int64[1] last = {1}> { h = MatMul(x, w)\n r = Relu(h)\n i = Unsqueeze(at, last)\n"
        + " g = GatherND<batch_dims = 1>(r, i)\n y = MatMul(g, v) }"
    )
    rng = np.random.default_rng(6)
    x = {
        "x": rng.normal(size=(8, 5, 6)).astype(np.float32),
        "at": rng.integers(0, 5, 8),
    }
    check_sound(opened, text, arrays(np.float32, w=(6, 12), v=(12, 4)), x)


def test_codes_of_tokens_as_ones_and_zeros(opened: Opener) -> None:
    text = (
        HEAD
        + "(int64[N, 5] x) => (float[N, 4] y) <float[9, 12] w, float[12, 4] v, int64 d = {9},"
        + " float[2] b = {0, 1}> { o = OneHot(x, d, b)\n h = MatMul(o, w)\n r = Relu(h)\n"
        + " m = ReduceMean<axes = [1], keepdims = 0>(r)\n y = MatMul(m, v) }"
    )
    x = {"x": np.random.default_rng(6).integers(0, 9, (8, 5))}
    check_sound(opened, text, arrays(np.float32, w=(9, 12), v=(12, 4)), x)


def test_activations_in_double_and_back(opened: Opener) -> None:
    text = (
        HEAD
        + "(float[N, 6] x) => (float[N, 4] y) <double[6, 12] w, float[12, 4] v> { a ="
        + " Cast<to = 11>(x)\n h = MatMul(a, w)\n r = Relu(h)\n f = Cast<to = 1>(r)\n"
        + " y = MatMul(f, v) }"
    )
    weights = arrays(np.float64, w=(6, 12)) | arrays(np.float32, v=(12, 4))
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float32)
    check_sound(opened, text, weights, x)


LEVELS = (
    HEAD.replace('"" : 13', '"" : 13, "com.microsoft" : 1')
    + "(float[N, 2, 5, 5] x) => (float[N, 3] y) <float[4, 2, 3, 3] w, float[{rows}, 3] v,"
    + " float s = {{0.04}}, uint8 z = {{120}}, float t = {{0.03}}, uint8 u = {{110}}>"
    + " {{ h = Conv(x, w)\n q = QuantizeLinear(h, s, z)\n p = com.microsoft.{op}(q, s, z, t, u)\n"
    + " d = DequantizeLinear(p, t, u)\n f = Flatten(d)\n y = MatMul(f, v) }}"
)


@pytest.mark.parametrize(
    ("op", "rows"),
    [
        ("QLinearGlobalAveragePool", 4),
        ("QLinearAveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]>", 36),
        ("QLinearLeakyRelu <alpha = 0.2>", 36),
    ],
)
def test_operators_on_levels(opened: Opener, op: str, rows: int) -> None:
    weights = arrays(np.float32, w=(4, 2, 3, 3), v=(rows, 3))
    x = np.random.default_rng(2).normal(size=(8, 2, 5, 5)).astype(np.float32)
    check_sound(opened, LEVELS.format(op=op, rows=rows), weights, x)


def test_operators_on_levels_with_channels_last_are_refused(opened: Opener) -> None:
    text = LEVELS.format(op="QLinearGlobalAveragePool <channels_last = 1>", rows=3)
    weights = arrays(np.float32, w=(4, 2, 3, 3), v=(3, 3))
    refused = open_bounds(*opened(text, weights, {"x": np.ones((4, 2, 5, 5), np.float32)}))
    assert isinstance(refused, Refusal)
    assert "its channels are last" in refused.reason


def test_a_graph_in_front_of_its_features(opened: Opener) -> None:
    text = (
        HEAD
        + "(float[N, 5, 6] x) => (float[N, 4] y) <float[5, 5] g, float[6, 8] w, float[8, 4] v>"
        + " { h = MatMul(x, w)\n a = MatMul(g, h)\n r = Relu(a)\n"
        + " m = ReduceMean<axes = [1], keepdims = 0>(r)\n y = MatMul(m, v) }"
    )
    x = np.random.default_rng(3).normal(size=(8, 5, 6)).astype(np.float32)
    check_sound(opened, text, arrays(np.float32, g=(5, 5), w=(6, 8), v=(8, 4)), x)
