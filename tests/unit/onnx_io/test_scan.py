"""Which weights are found, and how they are seen as matrices."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from cimrobust.errors import InputRefusedError
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers
from tests.zoo_networks import zoo_entries

Load = Callable[..., Network]

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'


def counted(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)


def the_layer(scan: LayerScan) -> CrossbarLayer:
    assert len(scan.layers) == 1
    return scan.layers[0]


def matrix(layer: CrossbarLayer) -> tuple[int, int, int]:
    assert layer.num_weights == layer.num_groups * layer.num_rows * layer.num_cols
    assert np.bincount(layer.column.ravel()).tolist() == [layer.num_rows] * (
        layer.num_groups * layer.num_cols
    )
    return layer.num_groups, layer.num_rows, layer.num_cols


def test_crossbar_weights_of_the_zoo_are_those_of_its_manifest(zoo: Path) -> None:
    for entry in zoo_entries(zoo).values():
        scan = scan_layers(load_network(zoo / entry["file"]))
        assert (
            sum(layer.num_weights for layer in scan.layers) == entry["crossbar_weights"]["total"]
        ), entry["name"]
        counts: dict[str, int] = {}
        for layer in scan.layers:
            counts[layer.uses[0].op] = counts.get(layer.uses[0].op, 0) + 1
            matrix(layer)
        assert counts == entry["crossbar_weights"]["layers"]


@pytest.mark.parametrize(
    ("node", "shape", "expected", "column"),
    [
        ("y = Conv(x, W)", (6, 2, 3, 3), (1, 18, 6), lambda i: i[0]),
        ("y = Conv <group = 3> (x, W)", (6, 2, 3, 3), (3, 18, 2), lambda i: i[0]),
        ("y = Conv <group = 4> (x, W)", (4, 1, 3), (4, 3, 1), lambda i: i[0]),
        (
            "y = ConvTranspose <group = 2> (x, W)",
            (4, 3, 2, 2),
            (2, 2, 12),
            lambda i: i[0] // 2 * 12 + i[1] * 4 + i[2] * 2 + i[3],
        ),
        ("y = Gemm(x, W)", (4, 3), (1, 4, 3), lambda i: i[1]),
        ("y = Gemm <transB = 1> (x, W)", (3, 4), (1, 4, 3), lambda i: i[0]),
        ("y = Gemm(W, x)", (3, 4), (1, 4, 3), lambda i: i[0]),
        ("y = Gemm <transA = 1> (W, x)", (4, 3), (1, 4, 3), lambda i: i[1]),
        ("y = MatMul(x, W)", (4, 3), (1, 4, 3), lambda i: i[1]),
        ("y = MatMul(x, W)", (4,), (1, 4, 1), lambda i: 0),
        ("y = MatMul(x, W)", (2, 5, 4, 3), (10, 4, 3), lambda i: (i[0] * 5 + i[1]) * 3 + i[3]),
        ("y = MatMul(W, x)", (3, 4), (1, 4, 3), lambda i: i[0]),
        (
            'y = Einsum <equation = "bk,hkn->bhn"> (x, W)',
            (2, 4, 3),
            (1, 4, 6),
            lambda i: i[0] * 3 + i[2],
        ),
        (
            'y = Einsum <equation = "hkn,bhk->bhn"> (W, x)',
            (2, 4, 3),
            (2, 4, 3),
            lambda i: i[0] * 3 + i[2],
        ),
        ('y = Einsum <equation = "...k,kn->...n"> (x, W)', (4, 3), (1, 4, 3), lambda i: i[1]),
        ("y = com.microsoft.FusedMatMul <transB = 1> (x, W)", (3, 4), (1, 4, 3), lambda i: i[0]),
        (
            'y = com.microsoft.FusedConv <activation = "Relu"> (x, W)',
            (6, 2, 3, 3),
            (1, 18, 6),
            lambda i: i[0],
        ),
        ("y, h, c = LSTM <hidden_size = 2> (x, W, R)", (1, 8, 5), (1, 5, 8), lambda i: i[1]),
        (
            'y, h = GRU <hidden_size = 2, direction = "bidirectional"> (x, W, R)',
            (2, 6, 5),
            (2, 5, 6),
            lambda i: i[0] * 6 + i[1],
        ),
    ],
)
def test_matrices_of_each_operator(
    load: Load,
    node: str,
    shape: tuple[int, ...],
    expected: tuple[int, int, int],
    column: Callable[[tuple[int, ...]], int],
) -> None:
    arrays = {"W": counted(*shape)}
    if "R" in node:
        arrays["R"] = counted(shape[0], shape[1], 2)
    network = load(
        HEAD
        + f"g (float{'[' + ', '.join('ABCDE'[: _rank(node, shape)]) + ']'} x) => (y) {{ {node} }}",
        **arrays,
    )
    layer = next(layer for layer in scan_layers(network).layers if layer.initializer == "W")
    assert matrix(layer) == expected
    np.testing.assert_array_equal(layer.column, _grid(shape, column))
    np.testing.assert_array_equal(layer.values, arrays["W"])
    assert layer.levels is None


def _grid(shape: tuple[int, ...], column: Callable[[tuple[int, ...]], int]) -> np.ndarray:
    return np.asarray([column(index) for index in np.ndindex(shape)]).reshape(shape)


def _rank(node: str, shape: tuple[int, ...]) -> int:
    if "Conv" in node:
        return len(shape)
    if "LSTM" in node or "GRU" in node or "bhk" in node or "..." in node:
        return 3
    return len(shape) if len(shape) > 2 and "Einsum" not in node else 2


def test_recurrent_weights_are_all_found(load: Load) -> None:
    network = load(
        HEAD + "g (float[T, B, 5] x) => (y) { y = RNN <hidden_size = 2> (x, W, R) }",
        W=counted(1, 2, 5),
        R=counted(1, 2, 2),
    )
    assert [
        (layer.initializer, layer.uses[0].role, matrix(layer))
        for layer in scan_layers(network).layers
    ] == [
        ("W", "W", (1, 5, 2)),
        ("R", "R", (1, 2, 2)),
    ]


@pytest.mark.parametrize(
    ("body", "shape", "column", "path"),
    [
        ("w = Transpose(W) y = MatMul(x, w)", (3, 4), lambda i: i[0], ("Transpose",)),
        ("w = Reshape(W, s) y = MatMul(x, w)", (2, 2, 3), lambda i: i[2], ("Reshape",)),
        (
            "v = Identity(W) w = Transpose <perm = [1, 0]> (v) y = MatMul(x, w)",
            (3, 4),
            lambda i: i[0],
            ("Identity", "Transpose"),
        ),
        ("w = Squeeze(W, one) y = MatMul(x, w)", (4, 1, 3), lambda i: i[2], ("Squeeze",)),
        (
            "v = Unsqueeze(W, one) w = Squeeze(v, one) y = MatMul(x, w)",
            (4, 3),
            lambda i: i[1],
            ("Unsqueeze", "Squeeze"),
        ),
        ("w = Flatten <axis = 2> (W) y = MatMul(x, w)", (2, 2, 3), lambda i: i[2], ("Flatten",)),
        ("v = Cast <to = 1> (W) y = MatMul(x, v)", (4, 3), lambda i: i[1], ("Cast",)),
    ],
)
def test_weights_are_followed_through_views(
    load: Load,
    body: str,
    shape: tuple[int, ...],
    column: Callable[[tuple[int, ...]], int],
    path: tuple[str, ...],
) -> None:
    network = load(
        HEAD
        + f"g (float[N, 4] x) => (y) <int64[2] s = {{4, 3}}, int64[1] one = {{1}}> {{ {body} }}",
        W=counted(*shape),
    )
    layer = the_layer(scan_layers(network))
    assert layer.initializer == "W"
    assert layer.uses[0].path == path
    assert matrix(layer) == (1, 4, 3)
    np.testing.assert_array_equal(layer.column, _grid(shape, column))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_float_types_become_float32(load: Load, dtype: type) -> None:
    network = load(
        HEAD + "g (float[N, 4] x) => (y) { w = Cast <to = 1> (W) y = MatMul(x, w) }",
        W=counted(4, 3).astype(dtype),
    )
    layer = the_layer(scan_layers(network))
    assert layer.values.dtype == np.float32
    np.testing.assert_array_equal(layer.values, counted(4, 3))


def test_a_shared_initializer_is_one_layer(load: Load) -> None:
    network = load(
        HEAD + "g (float[N, 4] x) => (y) { a = MatMul(x, W) t = Transpose(W) y = MatMul(a, t) }",
        W=counted(4, 4),
    )
    layer = the_layer(scan_layers(network))
    assert [(use.node, use.path) for use in layer.uses] == [("a", ()), ("y", ("Transpose",))]
    np.testing.assert_array_equal(layer.column, _grid((4, 4), lambda i: i[1]))


def test_parts_of_one_initializer_are_one_layer(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[N, 4] x) => (y) { a, b = Split <axis = 1> (W) p = MatMul(x, a) q = MatMul(x, b)"
        " y = Sub(p, q) }",
        W=counted(4, 6),
    )
    layer = the_layer(scan_layers(network))
    assert matrix(layer) == (1, 4, 6)
    np.testing.assert_array_equal(layer.column, _grid((4, 6), lambda i: i[1]))


def test_joined_initializers_are_layers_of_their_own(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[T, B, 5] x) => (y) { W = Concat <axis = 0> (F, G) y = RNN <hidden_size = 2,"
        ' direction = "bidirectional"> (x, W, R) }',
        F=counted(1, 2, 5),
        G=counted(1, 2, 5),
        R=counted(2, 2, 2),
    )
    layers = {layer.initializer: layer for layer in scan_layers(network).layers}
    assert set(layers) == {"F", "G", "R"}
    assert matrix(layers["F"]) == matrix(layers["G"]) == (1, 5, 2)
    np.testing.assert_array_equal(layers["G"].column, _grid((1, 2, 5), lambda i: i[1]))


def test_a_sliced_initializer_is_stored_as_the_slice(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[N, 4] x) => (y) <int64[1] a = {0}, int64[1] e = {2}, int64[1] d = {1}> { w ="
        " Slice(W, a, e, d) y = MatMul(x, w) }",
        W=counted(4, 6),
    )
    layer = the_layer(scan_layers(network))
    assert layer.initializer == "w"
    np.testing.assert_array_equal(layer.values, counted(4, 6)[:, :2])


def test_a_repeated_initializer_is_one_shared_array(load: Load) -> None:
    network = load(
        HEAD
        + "g (float[2, N, 4] x) => (y) <int64[3] s = {2, 4, 3}> { w = Expand(W, s) y = MatMul(x,"
        " w) }",
        W=counted(1, 4, 3),
    )
    layer = the_layer(scan_layers(network))
    assert layer.initializer == "W"
    assert matrix(layer) == (1, 4, 3)


def test_levels_of_a_dequantised_weight(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 4] x) => (y) <float[3] s = {0.5, 0.25, 2}, uint8[3] z = {10, 20, 30}> {
        w = DequantizeLinear <axis = 0> (W, s, z) t = Transpose(w) y = MatMul(x, t) }""",
        W=counted(3, 4, dtype=np.uint8),
    )
    layer = the_layer(scan_layers(network))
    expected = counted(3, 4, dtype=np.int32) - np.asarray([[10], [20], [30]])
    assert layer.levels is not None
    np.testing.assert_array_equal(layer.levels, expected)
    np.testing.assert_array_equal(layer.values, expected * np.asarray([[0.5], [0.25], [2]]))
    np.testing.assert_array_equal(layer.scale_group, _grid((3, 4), lambda i: i[0]))
    np.testing.assert_array_equal(layer.column, _grid((3, 4), lambda i: i[0]))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, ml_dtypes.int4])
def test_one_scale_has_no_groups(load: Load, dtype: type) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[N, 2] x) => (y) <float s = {0.5}> {
    w = DequantizeLinear(W, s) y = MatMul(x, w) }"""
    layer = the_layer(scan_layers(load(text, W=np.asarray([[-8, 7, 1], [2, 3, -4]]).astype(dtype))))
    assert layer.scale_group is None
    np.testing.assert_array_equal(layer.levels, [[-8, 7, 1], [2, 3, -4]])


def test_scales_of_blocks(load: Load) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[N, 4] x) => (y) {
    w = DequantizeLinear <axis = 0, block_size = 2> (W, s) y = MatMul(x, w) }"""
    scales = np.asarray([[1, 2, 4], [8, 16, 32]], np.float32)
    layer = the_layer(scan_layers(load(text, W=np.ones((4, 3), np.int8), s=scales)))
    np.testing.assert_array_equal(layer.values, scales.repeat(2, axis=0))
    assert layer.scale_group is not None
    assert len(np.unique(layer.scale_group)) == 6


def test_a_weight_quantised_at_run_time_is_stored_as_levels(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 4] x) => (y) <float s = {0.5}, int8 z = {0}> {
        q = QuantizeLinear(W, s, z) w = DequantizeLinear(q, s, z) y = MatMul(x, w) }""",
        W=counted(4, 3) + np.float32(0.1),
    )
    layer = the_layer(scan_layers(network))
    assert layer.initializer == "W"
    assert layer.levels is not None
    np.testing.assert_array_equal(layer.levels, 2 * counted(4, 3))


@pytest.mark.parametrize(
    ("node", "extra", "zero"),
    [
        ("y = MatMulInteger(q, W, xz, wz)", {"wz": np.asarray([1, 2, 3], np.uint8)}, [[1, 2, 3]]),
        ("y = MatMulInteger(q, W, xz, wz)", {"wz": np.asarray(7, np.uint8)}, 7),
        ("y = MatMulInteger(q, W)", {}, 0),
    ],
)
def test_integer_products_store_levels(
    load: Load, node: str, extra: dict[str, np.ndarray], zero: object
) -> None:
    network = load(
        HEAD + f"g (uint8[N, 4] q) => (y) <uint8 xz = {{3}}> {{ {node} }}",
        W=counted(4, 3, dtype=np.uint8),
        **extra,
    )
    layer = the_layer(scan_layers(network))
    assert layer.levels is not None
    np.testing.assert_array_equal(layer.levels, counted(4, 3, dtype=np.int32) - np.asarray(zero))
    np.testing.assert_array_equal(layer.values, layer.levels)
    assert (layer.scale_group is not None) == (np.size(zero) > 1)


def test_qlinear_conv_has_one_scale_a_channel(load: Load) -> None:
    network = load(
        HEAD
        + """g (uint8[N, 2, 5, 5] q) => (y) <float s = {0.5}, uint8 z = {3}, float[3] ws = {1, 2, 4}, int8[3] wz = {0, 0, 0}> {
        y = QLinearConv(q, s, z, W, ws, wz, s, z) }""",  # noqa: E501
        W=counted(3, 2, 3, 3, dtype=np.int8),
    )
    layer = the_layer(scan_layers(network))
    np.testing.assert_array_equal(
        layer.values, counted(3, 2, 3, 3) * np.asarray([1, 2, 4], np.float32).reshape(3, 1, 1, 1)
    )
    np.testing.assert_array_equal(layer.scale_group, layer.column)


def test_weights_in_bodies_are_found(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 2] x, bool c) => (float[N, 2] y) {
        y = If (c) <then_branch = a () => (float[N, 2] t) { t = MatMul(x, W) },
                    else_branch = b () => (float[N, 2] e) { k = Constant <value = float[2, 2] {1, 2, 3, 4}> () e = MatMul(x, k) }> }""",  # noqa: E501
        W=counted(2, 2),
    )
    assert [layer.initializer for layer in scan_layers(network).layers] == ["W", "k"]


def test_what_stays_digital_is_listed_with_its_reason(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 4] x, int64[N] i, float[4, 4] w) => (y) {
        e = Gather(E, i) s = Add(x, e) m = Mul(s, k) n = BatchNormalization(m, k, k, k, k) t = Transpose(n) p = MatMul(t, n)
        c = Einsum <equation = "ab,bc->ac"> (n, p) r = RandomNormal <shape = [4, 4]> () y = MatMul(c, r) }""",  # noqa: E501
        E=counted(9, 4),
        k=np.ones(4, np.float32),
    )
    scan = scan_layers(network)
    assert not scan.layers
    assert {node.node: node.reason for node in scan.unmapped} == {
        "e": "digital: embedding look-up",
        "m": "digital: element-wise scale",
        "n": "digital: normalisation",
        "p": "digital: product of two activations",
        "c": "digital: product of two activations",
        "y": "digital: product of two activations",
    }


def test_weights_without_a_plain_matrix_are_listed(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 4] x) => (y) { a = Einsum <equation = "nk,kk->nk"> (x, W) y = Relu(a) }""",
        W=counted(4, 4),
    )
    scan = scan_layers(network)
    assert not scan.layers
    assert "repeats an index" in scan.unmapped[0].reason


def test_scales_that_contradict_each_other_are_listed(load: Load) -> None:
    network = load(
        HEAD
        + """g (float[N, 4] x) => (y) <float s = {0.5}, float t = {0.25}> {
        v = DequantizeLinear(W, s) w = DequantizeLinear(W, t) a = MatMul(x, v) b = MatMul(x, w) y = Add(a, b) }""",  # noqa: E501
        W=counted(4, 3, dtype=np.int8),
    )
    scan = scan_layers(network)
    assert [layer.uses[0].node for layer in scan.layers] == ["a"]
    assert [(node.node, node.reason) for node in scan.unmapped] == [
        ("b", "nodes that share it dequantise it differently")
    ]


@pytest.mark.parametrize(
    ("io", "body", "arrays", "reason"),
    [
        (
            "(float[N, 0] x)",
            "y = MatMul (x, W)",
            {"W": np.zeros((0, 3), np.float32)},
            "its weight has no elements",
        ),
        (
            "(uint8[N, 4] x, float s)",
            "y = QLinearMatMul (x, a, z, W, s, z, a, z)",
            {
                "W": np.ones((4, 3), np.uint8),
                "a": np.array(0.1, np.float32),
                "z": np.array(0, np.uint8),
            },
            "its scale or zero point 's' is computed at run time",
        ),
        (
            "(float[N, 4] x)",
            "w = DequantizeLinear <axis = 1> (W, s) y = MatMul (x, w)",
            {"W": np.ones((4, 3), np.int8), "s": np.ones(4, np.float32)},
            "scales of shape [4] do not fit a weight of shape [4, 3]",
        ),
    ],
)
def test_weights_that_no_crossbar_holds_stay_digital(
    load: Load, io: str, body: str, arrays: dict[str, np.ndarray], reason: str
) -> None:
    scan = scan_layers(load(f"{HEAD} g {io} => (y) {{ {body} }}", **arrays))
    assert reason in [node.reason for node in scan.unmapped]


def test_infinite_weights_behind_views_are_refused(load: Load) -> None:
    weights = counted(4, 3)
    weights[1, 2] = np.inf
    with pytest.raises(InputRefusedError, match="'W' must be finite"):
        load(HEAD + "g (float[N, 3] x) => (y) { w = Transpose(W) y = MatMul(x, w) }", W=weights)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 3, 2), (0, 3, 1, 2)])
def test_layers_stand_in_the_order_in_which_data_reaches_them(
    load: Load, order: tuple[int, ...]
) -> None:
    branches = ["a = MatMul(x, W)", "b = MatMul(x, V)", "c = MatMul(a, Q)", "d = MatMul(b, P)"]
    body = " ".join(branches[index] for index in order)
    arrays = {"W": counted(4, 3), "V": counted(4, 3), "Q": counted(3, 2), "P": counted(3, 2)}
    network = load(HEAD + f"g (float[N, 4] x) => (y) {{ {body} y = Add(c, d) }}", **arrays)
    assert [layer.initializer for layer in scan_layers(network).layers] == ["V", "W", "P", "Q"]


@pytest.mark.parametrize("node", ["MatMul (x, W)", "Gemm <transB = 1> (x, W)", "MatMul (W, x)"])
def test_scan_of_a_whole_initializer_holds_no_number_a_weight(load: Load, node: str) -> None:
    """Its column follows from shape and axis, its values are those that the network holds."""
    weights = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    network = load(f"{HEAD} g (float[256, 256] x) => (y) {{ y = {node} }}", W=weights)
    tracemalloc.start()
    try:
        layer = the_layer(scan_layers(network))
        held, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < weights.nbytes / 4
    assert matrix(layer) == (1, 256, 256)
    assert not layer.column.flags.writeable
    assert np.shares_memory(layer.values, network.initializers["W"])
