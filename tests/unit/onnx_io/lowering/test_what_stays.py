"""Forms of operators that have no standard nodes: the note, or the refusal, says which and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.load_network import load_network
from tests.unit.onnx_io.lowering.test_run import written

Arrays = Mapping[str, np.ndarray]

MS, ML = "com.microsoft", "ai.onnx.ml"
ROWS = "(float[n, 4] x) => (float[n, 4] y)"
TEXTS = "(float[n, 4, 8] x) => (float[n, 4, 8] y)"
PROJECTION = {"W": np.zeros((8, 24), np.float32), "b": np.zeros(24, np.float32)}
LEVELS = {
    "X": np.zeros((2, 4, 8), np.uint8),
    "W": np.zeros((8, 24), np.uint8),
    "b": np.zeros(24, np.float32),
    "s": np.float32(0.1),
    "c": np.full(24, 0.1, np.float32),
    "z": np.uint8(0),
}
BLOCKS = {"q": np.zeros((4, 1, 8), np.uint8), "s": np.ones(4, np.float32)}
VECTOR = "coefficients = [1.0, 1.0, 1.0, 1.0]"


def model(path: Path, io: str, node: str, arrays: Arrays, opset: int) -> Path:
    """Write a model of one node, or of several that are given as text."""
    head = f'<ir_version: 8, opset_import: ["": {opset}, "{MS}": 1, "{ML}": 3]>'
    return written(path, f"{head} g {io} {{ {node} }}", **arrays)


@pytest.mark.parametrize(
    ("io", "node", "arrays", "opset", "reason"),
    [
        (
            TEXTS,
            "Attention <num_heads = 2, do_rotary = 1> (x, W, b)",
            PROJECTION,
            17,
            "rotary embedding and shared buffers inside Attention are for other processors",
        ),
        (
            TEXTS,
            "Attention <num_heads = 3> (x, W, b)",
            PROJECTION,
            17,
            "its hidden sizes [8, 8, 8] are no multiples of 3 heads",
        ),
        (
            TEXTS,
            "Attention <num_heads = 2> (x, W, b)",
            {"W": np.zeros((8, 25), np.float32), "b": np.zeros(25, np.float32)},
            17,
            "the width of its weights is not known, or no multiple of 3",
        ),
        (
            "(float[n, 4, 8] x, int32[n, 1, 4, 4] m) => (float[n, 4, 8] y)",
            "Attention <num_heads = 2> (x, W, b, m)",
            PROJECTION,
            17,
            "its mask has 4 axes, which onnxruntime takes on other processors alone",
        ),
        (
            TEXTS,
            "Attention <num_heads = 2> (x, W, b)",
            PROJECTION,
            10,
            "the model is of operator set 10, the nodes that take its place need 11 or newer",
        ),
        (
            TEXTS,
            "QAttention <num_heads = 2, do_rotary = 1> (X, W, b, s, s, , z, z)",
            LEVELS,
            17,
            "rotary embedding and shared buffers inside QAttention are for other processors",
        ),
        (
            TEXTS,
            "QAttention <num_heads = 2> (X, W, b, s, c, , z, z)",
            LEVELS,
            17,
            "it has one scale a column and one zero point in all",
        ),
        (
            "(float[n, 4, 8] x, int32[1] l) => (float[n, 4, 8] y)",
            "MultiHeadAttention <num_heads = 2> (x, x, x, , , , , , l)",
            {},
            17,
            "buffers shared between past and present, and beams, are not covered",
        ),
        (
            TEXTS,
            "MultiHeadAttention <num_heads = 2> (x)",
            {},
            17,
            "it has a query of three axes and no key",
        ),
        (
            "(float[n, 4, 8] x, int32[n, 1, 4, 4] m) => (float[n, 4, 8] y)",
            "MultiHeadAttention <num_heads = 2> (x, x, x, , m)",
            {},
            17,
            "its mask has 4 axes",
        ),
        (
            "(float[n, 4, 8] x, int32[n] l, int32 t) => (float[n, 4, 8] y)",
            "GroupQueryAttention <num_heads = 2, kv_num_heads = 2, qk_output = 1>"
            " (x, x, x, , , l, t)",
            {},
            17,
            "qk_output = 1 is not covered",
        ),
        (
            "(float[n, 4, 8] x, int32[n] l, int32 t) => (float[n, 4, 8] y)",
            "GroupQueryAttention <num_heads = 2, kv_num_heads = 2>"
            " (x, x, x, , , l, t, , , , , , s)",
            {"s": np.ones(1, np.float32)},
            17,
            "quantised caches, normalised queries and padded chunks are not covered",
        ),
        (
            "(float[n, 4, 8] x, float[n, 2, 0, 4] p, int32[n] l, int32 t) => (float[n, 4, 8] y)",
            "GroupQueryAttention <num_heads = 2, kv_num_heads = 2> (x, x, x, , p, l, t)",
            {},
            17,
            "it has values of the past without keys",
        ),
        (
            "(float[n, 4, w] x, float[9, h] c, int64[1] i) => (float[n, 4, w] y)",
            "RotaryEmbedding (x, i, c, c)",
            {},
            17,
            "the width of its cache 'c' is not known",
        ),
        (
            "(float[n, 8] x, int64[1] i) => (float[n, 8] y)",
            "RotaryEmbedding (x, i, c, c)",
            {"c": np.zeros((9, 4), np.float32)},
            17,
            "its input has 2 axes",
        ),
        (
            "(float[n, 4] x) => (float[n, 4] y, float[n, 1] m)",
            "SkipLayerNormalization (x, x, g)",
            {"g": np.ones(4, np.float32)},
            17,
            "its mean and inverse deviation are outputs that onnxruntime does not compute",
        ),
        (
            "(float[n, 4] x) => (float[n, 4] y, float[n, 1] m)",
            "Gelu (x)",
            {},
            17,
            "its output 1 ('m') is not made by standard operators",
        ),
        (
            "(float[n, 4] x, int32 a) => (float[n, 1, 4] y)",
            "ExpandDims (x, a)",
            {},
            17,
            "its axis is not constant",
        ),
        (
            ROWS,
            'FusedGemm <activation = "Erf"> (x, w)',
            {"w": np.eye(4, dtype=np.float32)},
            17,
            "its activation Erf is not covered",
        ),
        (
            "(uint8[n, 4, 4, 1] x) => (uint8[n, 2, 2, 1] y)",
            "NhwcMaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)",
            {},
            11,
            "MaxPool of integers is of operator set 12",
        ),
        (
            "(float[n, 8] x) => (float[n, 4] y)",
            "MatMulNBits <K = 8, N = 4, bits = 3, block_size = 16> (x, q, s)",
            BLOCKS,
            17,
            "it has 3 bits in blocks of 16, 32 bytes",
        ),
        (
            "(float[n, 8] x) => (float[n, 4] y)",
            "MatMulNBits <K = 8, N = 5, bits = 4, block_size = 16> (x, q, s)",
            BLOCKS,
            17,
            "its weights and scales do not fit 5 x 8 in blocks of 16",
        ),
        (
            "(float[n, 8] x) => (float[n, 4] y)",
            "MatMulNBits <K = 8, N = 4, bits = 4, block_size = 16> (x, q, s, , i)",
            {**BLOCKS, "i": np.full(8, 1, np.int32)},
            17,
            "its group indices do not fit its inputs and blocks",
        ),
        (
            "(float[n, 8] x) => (float[n, 4] y)",
            "MatMulBnb4 <K = 8, N = 4, block_size = 16, quant_type = 2> (x, q, s)",
            BLOCKS,
            17,
            "it is of kind 2 in blocks of 16",
        ),
        (
            "(int64[n] x) => (float[n, 8] y)",
            "GatherBlockQuantized <block_size = 0, bits = 8> (q, x, s)",
            {"q": np.zeros((4, 8), np.uint8), "s": np.ones((4, 1), np.float32)},
            17,
            "it has 32 elements of uint8 in blocks of 0",
        ),
    ],
)
def test_forms_of_the_runtime_s_own_operators(
    tmp_path: Path, io: str, node: str, arrays: Arrays, opset: int, reason: str
) -> None:
    outputs = "y, m" if "float[n, 1] m" in io else "y"
    path = model(tmp_path, io, f"{outputs} = {MS}.{node}", arrays, opset)
    network = load_network(path)
    (note,) = [note for note in network.notes if "stays as it is" in note]
    assert note.startswith(f"node 'y' ({MS}::{node.split(maxsplit=1)[0]}) stays as it is")
    assert reason in note


@pytest.mark.parametrize(
    ("io", "node", "opset", "reason"),
    [
        (ROWS, 'Normalizer <norm = "L3"> (x)', 17, "its norm L3 is not covered"),
        (
            ROWS,
            'Normalizer <norm = "L1"> (x)',
            8,
            "the model is of operator set 8, the nodes that take its place need 9 or newer",
        ),
        (
            "(int64[n, 4] x) => (int64[n, 4] y)",
            "Imputer <imputed_value_int64s = [1], replaced_value_int64 = 0> (x)",
            17,
            "it replaces integers",
        ),
        (
            "(float[n, 4] x, int64[2] i) => (float[n, 2] y)",
            "ArrayFeatureExtractor (x, i)",
            17,
            "its indices are not constant, or its input has one axis",
        ),
        (
            ROWS,
            "FeatureVectorizer <inputdimensions = [3]> (x)",
            17,
            "its inputs are not matrices of the widths that it states",
        ),
        (
            "(string[n, 1] x) => (float[n, 1, 2] y)",
            'OneHotEncoder <cats_strings = ["a", "b"]> (x)',
            17,
            "its categories are texts, or what is none of them is an error",
        ),
        (
            "(string[n, 1] x) => (float[n, 1, 2] y)",
            "OneHotEncoder <cats_int64s = [1, 2]> (x)",
            17,
            "its input is text",
        ),
        (
            "(float[n, 4] x) => (float[n, 1] y)",
            f'LinearRegressor <{VECTOR}, post_transform = "PROBIT"> (x)',
            17,
            "its post_transform PROBIT is not covered",
        ),
        (
            "(float[n, 4] x) => (int64[n] l, float[n, 2] y)",
            "LinearClassifier <coefficients = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0],"
            ' classlabels_ints = [0, 1], intercepts = [0.0, 0.0], post_transform = "PROBIT"> (x)',
            17,
            "its post_transform PROBIT is not covered",
        ),
        (
            "(float[n, 4] x) => (int64[n] l, float[n, 2] y)",
            f"LinearClassifier <{VECTOR}, classlabels_ints = [0, 1], intercepts = [0.0],"
            ' post_transform = "PROBIT"> (x)',
            17,
            "its post_transform PROBIT is not covered",
        ),
        (
            "(float[n, 4] x) => (float[n, 1] y)",
            f'SVMRegressor <{VECTOR}, kernel_type = "RBF"> (x)',
            17,
            "its kernel RBF is not linear, so it is no matrix product with its input",
        ),
        (
            "(float[n, 4] x) => (int64[n] l, float[n, 2] y)",
            f"SVMClassifier <{VECTOR}, classlabels_ints = [0, 1], prob_a = [1.0], prob_b = [0.0]>"
            " (x)",
            17,
            "it computes probabilities from its scores",
        ),
        (
            "(float[n, 4] x) => (int64[n] l, float[n, 3] y)",
            f"SVMClassifier <{VECTOR}, classlabels_ints = [0, 1, 2], vectors_per_class = [1, 1, 1]>"
            " (x)",
            17,
            "its 3 classes vote in pairs",
        ),
        (
            "(float[n, 4] x) => (int64[n] l, float[n, 2] y)",
            "SVMClassifier <coefficients = [1.0, -1.0], support_vectors = [1.0, 1.0, 1.0, 1.0,"
            " 2.0, 2.0, 2.0, 2.0], classlabels_ints = [0, 1], vectors_per_class = [1, 1],"
            ' rho = [0.0], post_transform = "SOFTMAX"> (x)',
            17,
            "its post_transform SOFTMAX is not covered",
        ),
    ],
)
def test_forms_of_classical_models(
    tmp_path: Path, io: str, node: str, opset: int, reason: str
) -> None:
    outputs = "l, y" if " l," in io else "y"
    path = model(tmp_path, io, f"{outputs} = {ML}.{node}", {}, opset)
    (note,) = [note for note in load_network(path).notes if "stays as it is" in note]
    assert f"({ML}::{node.split(maxsplit=1)[0]}) stays as it is" in note
    assert reason in note


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (
            'DynamicQuantizeLSTM <hidden_size = 4, direction = "sideways"> (x, q, q, , , , , s, z)',
            "direction must be forward, reverse or bidirectional, got 'sideways'",
        ),
        (
            "DynamicQuantizeLSTM <hidden_size = 4> (x, q, q, , , , , x, z, x, z)",
            "weights, their scales and zero points must be constants",
        ),
    ],
)
def test_what_no_runtime_computes(tmp_path: Path, node: str, reason: str) -> None:
    arrays = {
        "q": np.zeros((1, 4, 16), np.uint8),
        "s": np.ones(1, np.float32),
        "z": np.zeros(1, np.uint8),
    }
    path = model(
        tmp_path, "(float[t, n, 4] x) => (float[t, n, 4] y)", f"y = {MS}.{node}", arrays, 17
    )
    with pytest.raises(ModelNotCoveredError, match=rf"node 'y' \({MS}::\w+\): {reason}"):
        load_network(path)
