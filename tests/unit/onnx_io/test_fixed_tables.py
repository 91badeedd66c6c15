"""Constants that multiply and are no trained weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.load_profile import load_profile
from cimrobust.mapping.decided import stored_layers
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.onnx_io.named_tables import name_of, same_kernels
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

Load = Callable[..., Network]
RNG = np.random.default_rng(0)


def dft(n: int) -> np.ndarray:
    """Real and imaginary part of the transform of real signals, [n, 2 * (n / 2 + 1)], as float32
    arithmetic makes it.
    """
    angle = np.float32(2 * np.pi / n) * np.outer(np.arange(n), np.arange(n // 2 + 1)).astype(
        np.float32
    )
    return np.concatenate([np.cos(angle), -np.sin(angle)], axis=1).astype(np.float32)


def cosines(n: int, kept: int) -> np.ndarray:
    return np.cos(np.pi / n * np.outer(np.arange(n) + 0.5, np.arange(kept))).astype(np.float32)


def mel(bins: int, filters: int) -> np.ndarray:
    """Triangles over equally spaced bins, centres on the mel scale, in hertz."""
    hertz = np.linspace(0, 8000, bins)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), filters + 2) / 2595) - 1)
    up = (hertz[:, None] - edges[None, :-2]) / np.diff(edges)[None, :-1]
    down = (edges[None, 2:] - hertz[:, None]) / np.diff(edges)[None, 1:]
    return np.maximum(0, np.minimum(up, down)).astype(np.float32)


def hadamard(n: int) -> np.ndarray:
    return np.ones((1, 1)) if n == 1 else np.kron(hadamard(n // 2), [[1.0, 1.0], [1.0, -1.0]])


def grid(rows: int, cols: int) -> np.ndarray:
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, cols), indexing="ij")
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


TABLES = {
    "transform": dft(64),
    "transform, transposed": dft(64).T,
    "long transform": dft(1024),
    "transform under a window": dft(64) * np.hanning(64).astype(np.float32)[:, None],
    "inverse transform, scaled by row": (dft(64) * np.r_[1, [2] * 31, 1, 1, [2] * 31, 1] / 64).T,
    "lowest frequencies": dft(64)[:, [*range(20), *range(33, 53)]],
    "cosine transform": cosines(32, 32),
    "some of a cosine transform": cosines(40, 13),
    "mel filters": mel(257, 40),
    "many mel filters": mel(201, 80),
    "Hadamard": hadamard(16),
    "identity": np.eye(16),
    "permutation": np.eye(16)[RNG.permutation(16)],
    "running sums": np.tril(np.ones((10, 10))),
    "bins": np.arange(16.0)[:, None],
    "grid": grid(5, 7),
    "grid with ones": np.c_[grid(4, 4), np.ones(16)].T,
}
WEIGHTS = {
    "trained": RNG.normal(size=(64, 64)),
    "orthogonal": np.linalg.qr(RNG.normal(size=(64, 64)))[0],
    "transform that was trained on": dft(64) + 0.01 * RNG.normal(size=(64, 66)),
    "transform of which one row was trained": np.where(
        np.arange(66) == 5, RNG.normal(size=(64, 66)), dft(64)
    ),
    "small identity": np.eye(4),
    "scaled columns": np.diag(np.linspace(1, 2, 16)),
    "constant": np.full((20, 4), 0.3),
    "constant column": np.full((20, 1), 0.05),
    "signs": np.sign(RNG.normal(size=(16, 16))),
    "ternary": np.sign(RNG.normal(size=(16, 16))) * (RNG.uniform(size=(16, 16)) > 0.5),
    "small Hadamard": hadamard(2),
    "counting matrix": np.arange(64.0).reshape(16, 4),
    "low rank": np.outer(np.sin(np.arange(16)), RNG.normal(size=16)),
    "not negative and sparse": np.maximum(0, RNG.normal(size=(257, 40)) - 1),
    "two equal columns": np.repeat(RNG.normal(size=(16, 1)), 2, axis=1),
    "zero": np.zeros((16, 16)),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_are_known_by_their_formula(table: np.ndarray) -> None:
    assert name_of(table) is not None


@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_are_not(weight: np.ndarray) -> None:
    assert name_of(weight) is None


def test_one_filter_for_all_channels_is_no_training() -> None:
    blur = np.outer([1, 2, 1], [1, 2, 1]).reshape(1, -1) / 16
    assert same_kernels(np.repeat(blur, 8, axis=0))
    assert not same_kernels(np.repeat(blur, 8, axis=0) + np.eye(8, 9) * 1e-6)
    assert not same_kernels(np.repeat(blur, 2, axis=0))
    assert not same_kernels(np.ones((8, 1)))
    assert same_kernels(np.full((8, 9), 1 / 9))
    assert not same_kernels(np.ones((8, 9)))


def reasons(scan: LayerScan) -> dict[str, str]:
    return {node.node: node.reason for node in scan.unmapped}


ROTARY = """<ir_version: 8, opset_import: ["" : 17]>
net (INPUT) => (float[n, 3] y) <int64[1] one = {1}, float[1, 2, 1] f, float[4, 3] V>
{ POSITIONS \n u = Unsqueeze(p, one) \n a = MatMul(f, u) \n t = Transpose<perm = [0, 2, 1]>(a) \n USE \n r = ReduceMean<axes = [1], keepdims = 0>(b) \n y = MatMul(r, V) }"""  # noqa: E501
WEIGHT = RNG.normal(size=(4, 3)).astype(np.float32)
FREQUENCIES = np.array([1.0, 0.1], np.float32).reshape(1, 2, 1)
BOTH = "s = Sin(t) \n c = Cos(t) \n b = Concat<axis = 2>(s, c)"


def rotary(
    load: Load,
    *,
    given: str = "int64[n, 5] i",
    positions: str = "p = Cast<to = 1>(i)",
    use: str = BOTH,
    table: np.ndarray = FREQUENCIES,
) -> LayerScan:
    text = ROTARY.replace("INPUT", given).replace("POSITIONS", positions).replace("USE", use)
    return scan_layers(
        load(text.replace("float[1, 2, 1] f, float[4, 3] V", "float z = {0}"), f=table, V=WEIGHT)
    )


def test_frequencies_that_positions_are_multiplied_by_stay_digital(load: Load) -> None:
    scan = rotary(load)
    assert [layer.initializer for layer in scan.layers] == ["V"]
    assert reasons(scan) == {
        "a": "digital: a table of frequencies, which positions are multiplied by"
    }
    assert [node.table for node in scan.unmapped] == ["f"]


@pytest.mark.parametrize(
    "how",
    [
        {
            "given": "float[n, 5] i",
            "positions": "p = Identity(i)",
        },  # floats of an input: a learned Fourier feature of a measurement
        {
            "use": "s = Sin(t) \n b = Concat<axis = 2>(s, s)"
        },  # sines alone: a layer with a periodic activation
        {
            "use": (
                "s = Sin(t) \n c = Cos(t) \n e = Concat<axis = 2>(s, c) \n g = Concat<axis = 2>(t,"
                " t) \n b = Add(e, g)"
            )
        },  # the product itself is used too
        {"table": np.array([1.0, -0.1], np.float32).reshape(1, 2, 1)},
        {
            "positions": "E = Constant<value = float[3] {0.1, 0.2, 0.3}>() \n p = Gather(E, i)"
        },  # looked up in a table of floats
    ],
)
def test_what_may_have_been_trained_is_mapped(load: Load, how: dict[str, object]) -> None:
    assert {layer.initializer for layer in rotary(load, **how).layers} == {"f", "V"}  # type: ignore[arg-type]


def test_tables_that_are_asked_for_are_stored(load: Load) -> None:
    network = load(
        ROTARY.replace("INPUT", "int64[n, 5] i")
        .replace("POSITIONS", "p = Cast<to = 1>(i)")
        .replace("USE", BOTH)
        .replace("float[1, 2, 1] f, float[4, 3] V", "float z = {0}"),
        f=FREQUENCIES,
        V=WEIGHT,
    )
    scan = scan_layers(network, stored={"f"})
    assert [layer.initializer for layer in scan.layers] == ["f", "V"]
    assert not scan.unmapped


@pytest.mark.parametrize(
    ("match", "stored"), [("f", True), ("a", True), ("*", False), ("V", False)]
)
def test_a_rule_that_names_a_table_gives_it_devices(load: Load, match: str, stored: bool) -> None:
    text = (
        ROTARY.replace("INPUT", "int64[n, 5] i")
        .replace("POSITIONS", "p = Cast<to = 1>(i)")
        .replace("USE", BOTH)
    )
    network = load(
        text.replace("float[1, 2, 1] f, float[4, 3] V", "float z = {0}"), f=FREQUENCIES, V=WEIGHT
    )
    profile = replace(load_profile("rram-write-verify-3pct"), rules=(LayerRule(match=match),))
    _network, scan = stored_layers(network, profile)
    assert [layer.initializer for layer in scan.layers] == (["f", "V"] if stored else ["V"])


def test_product_with_sizes_alone_stays_digital(load: Load) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[n, s, 4] x) => (float[n, s, 3] y) <int64 zero = {0}, int64 one = {1}, int64[1] ax = {1}, int64 pick = {1}>
    { d = Shape(x) \n k = Gather(d, pick) \n r = Range(zero, k, one) \n f = Cast<to = 1>(r) \n u = Unsqueeze(f, ax) \n p = MatMul(u, P) \n h = MatMul(x, V) \n y = Add(h, p) }"""  # noqa: E501
    scan = scan_layers(load(text, P=RNG.normal(size=(1, 3)).astype(np.float32), V=WEIGHT))
    assert [layer.initializer for layer in scan.layers] == ["V"]
    assert reasons(scan) == {"p": "digital: a table, its product is the same for all samples"}


def test_learned_queries_are_multiplied_by_weights(load: Load) -> None:
    """No data, but trained numbers on the other side: the array that makes keys of them is a layer
    like any other.
    """
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[n, 4] x) => (float[n, 3] y) <float[1] g = {1}> { q = LayerNormalization(Q, S) \n p = MatMul(q, P) \n h = MatMul(x, V) \n y = Add(h, p) }"""  # noqa: E501
    arrays = {
        "Q": RNG.normal(size=(1, 4)),
        "S": np.ones(4),
        "P": RNG.normal(size=(4, 3)),
        "V": WEIGHT,
    }
    scan = scan_layers(
        load(text, **{name: array.astype(np.float32) for name, array in arrays.items()})
    )
    assert [layer.initializer for layer in scan.layers] == ["P", "V"]


CONVOLUTION = """<ir_version: 8, opset_import: ["" : 17]>
net (float[n, C, h, w] x) => (float[n, D, a, b] y) { b = Conv<group = C>(x, B) \n y = Conv(b, K) }"""  # noqa: E501


def test_blur_of_all_channels_stays_digital(load: Load) -> None:
    blur = np.broadcast_to(np.outer([1, 2, 1], [1, 2, 1]) / 16, (4, 1, 3, 3)).astype(np.float32)
    text = CONVOLUTION.replace("C, h", "4, h").replace("group = C", "group = 4").replace("D", "5")
    scan = scan_layers(load(text, B=blur, K=RNG.normal(size=(5, 4, 3, 3)).astype(np.float32)))
    assert [layer.initializer for layer in scan.layers] == ["K"]
    assert reasons(scan) == {"b": "digital: a table, one filter for all channels"}


@pytest.mark.parametrize("op", ["Conv<strides = [16]>", "MatMul"])
def test_spectrogram_stays_digital(load: Load, op: str) -> None:
    table, shape = (
        dft(64) * np.hanning(64).astype(np.float32)[:, None],
        ("1, 640" if "Conv" in op else "10, 64"),
    )
    kernel = np.ascontiguousarray(table.T[:, None, :] if "Conv" in op else table, np.float32)
    text = (
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[n, {shape}] x) => (float[n, a, b] y)'
        f" {{ s = {op}(x, T) \n p = Mul(s, s) \n y = MatMul(p, V) }}"
    )
    scan = scan_layers(
        load(text, T=kernel, V=RNG.normal(size=(37 if "Conv" in op else 66, 3)).astype(np.float32))
    )
    assert [layer.initializer for layer in scan.layers] == ["V"]
    assert "Fourier" in reasons(scan)["s"]
