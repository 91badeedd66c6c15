"""Linear models and tables of features of ai.onnx.ml, against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cimrobust.onnx_io.lowering.lower_model import lower

from .conftest import Pair

Same = Callable[..., Pair]
ML = {"domain": "ai.onnx.ml"}


def features(rng: np.random.Generator, count: int = 60) -> np.ndarray:
    return rng.normal(size=(count, 4)).astype(np.float32)


def numbers(rng: np.random.Generator, count: int) -> list[float]:
    return [float(value) for value in rng.normal(size=count).astype(np.float32)]


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
@pytest.mark.parametrize("targets", [1, 3])
def test_regressor(same: Same, rng: np.random.Generator, targets: int, opset: int) -> None:
    values = {
        "coefficients": numbers(rng, 4 * targets),
        "intercepts": numbers(rng, targets),
        "targets": targets,
    }
    pair = same("LinearRegressor", ["x"], {"x": features(rng)}, opset=opset, **ML, **values)
    assert pair.operators == {"Gemm"}
    assert any(
        f"the coefficients of 'node' are stored as 'node.coefficients', {targets} x 4" in note
        for note in pair.outcome.notes
    )


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.int32])
def test_features_of_other_types(same: Same, rng: np.random.Generator, kind: type) -> None:
    x = np.rint(10 * features(rng)).astype(kind)
    values = {
        "coefficients": numbers(rng, 12),
        "intercepts": numbers(rng, 3),
        "classlabels_ints": [0, 1, 2],
    }
    same("LinearClassifier", ["x"], {"x": x}, outputs=["y", "z"], **ML, **values)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("kind", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize(
    ("scores", "labels"), [(1, [0, 1]), (1, [7, -7]), (2, [0, 1]), (3, [0, 1, 2]), (3, [5, 9, 2])]
)
def test_classifier(
    same: Same, rng: np.random.Generator, scores: int, labels: list[int], kind: str, opset: int
) -> None:
    values = {
        "coefficients": numbers(rng, 4 * scores),
        "intercepts": numbers(rng, scores),
        "classlabels_ints": labels,
        "post_transform": kind,
    }
    same(
        "LinearClassifier",
        ["x"],
        {"x": features(rng)},
        outputs=["y", "z"],
        opset=opset,
        **ML,
        **values,
    )


def test_scores_of_zero_are_left_out_of_one_softmax(same: Same) -> None:
    x = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0]], np.float32)
    values = {
        "coefficients": np.eye(3, 4, dtype=np.float32).reshape(-1).tolist(),
        "intercepts": [0.0, 0.0, 0.0],
        "post_transform": "SOFTMAX_ZERO",
    }
    same(
        "LinearClassifier",
        ["x"],
        {"x": x[1:]},
        outputs=["y", "z"],
        classlabels_ints=[0, 1, 2],
        **ML,
        **values,
    )


def test_text_labels(same: Same, rng: np.random.Generator, pair: Callable[..., Pair]) -> None:
    values = {
        "coefficients": numbers(rng, 12),
        "intercepts": numbers(rng, 3),
        "classlabels_strings": ["cat", "dog", "owl"],
    }
    made = pair(
        "LinearClassifier",
        ["x"],
        {"x": features(rng)},
        opset=17,
        domain="ai.onnx.ml",
        outputs=["y", "z"],
        constants=[],
        symbolic=True,
        attributes=values,
    )
    labels, scores = made.run(made.lowered)
    expected, wanted = made.run(made.original)
    assert labels.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, wanted, atol=1e-5)


@pytest.mark.parametrize("one_class", [0, 1])
def test_linear_svm_regressor(same: Same, rng: np.random.Generator, one_class: int) -> None:
    values = {
        "coefficients": numbers(rng, 4),
        "rho": [0.3],
        "kernel_type": "LINEAR",
        "kernel_params": [0.0, 0.0, 3.0],
        "n_supports": 0,
    }
    same("SVMRegressor", ["x"], {"x": features(rng)}, **ML, one_class=one_class, **values)


def test_support_vectors_of_a_linear_kernel_are_added_up(
    same: Same, rng: np.random.Generator
) -> None:
    values = {
        "coefficients": numbers(rng, 5),
        "support_vectors": numbers(rng, 20),
        "rho": [0.3],
        "kernel_type": "LINEAR",
    }
    pair = same(
        "SVMRegressor",
        ["x"],
        {"x": features(rng)},
        **ML,
        n_supports=5,
        kernel_params=[0.5, 0.2, 3.0],
        **values,
    )
    assert pair.operators == {"Gemm"}


@pytest.mark.parametrize("kind", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_svm_classifier(
    same: Same, rng: np.random.Generator, classes: int, kind: str
) -> None:
    values = {
        "coefficients": numbers(rng, 4 * classes),
        "rho": [0.3],
        "kernel_type": "LINEAR",
        "kernel_params": [0.0, 0.0, 3.0],
    }
    labels = list(range(4, 4 + classes))
    same(
        "SVMClassifier",
        ["x"],
        {"x": features(rng)},
        outputs=["y", "z"],
        **ML,
        classlabels_ints=labels,
        post_transform=kind,
        **values,
    )


@pytest.mark.parametrize("kind", ["NONE", "LOGISTIC"])
def test_support_vectors_of_two_classes(same: Same, rng: np.random.Generator, kind: str) -> None:
    values = {
        "coefficients": numbers(rng, 4),
        "support_vectors": numbers(rng, 16),
        "vectors_per_class": [2, 2],
        "rho": [0.3],
        "kernel_type": "LINEAR",
    }
    same(
        "SVMClassifier",
        ["x"],
        {"x": features(rng)},
        outputs=["y", "z"],
        **ML,
        classlabels_ints=[5, 6],
        post_transform=kind,
        kernel_params=[0.0, 0.0, 3.0],
        **values,
    )


@pytest.mark.parametrize(
    ("op", "attributes", "reason"),
    [
        (
            "SVMRegressor",
            {
                "coefficients": [1.0],
                "support_vectors": [1.0, 2.0, 3.0, 4.0],
                "rho": [0.1],
                "kernel_type": "RBF",
                "n_supports": 1,
            },
            "kernel RBF is not linear",
        ),
        (
            "LinearClassifier",
            {
                "coefficients": [1.0] * 8,
                "intercepts": [0.0, 0.0],
                "classlabels_ints": [0, 1],
                "post_transform": "PROBIT",
            },
            "PROBIT",
        ),
        (
            "LinearClassifier",
            {"coefficients": [1.0] * 7, "intercepts": [0.0, 0.0], "classlabels_ints": [0, 1]},
            "7 coefficients for 2 outputs",
        ),
        (
            "SVMClassifier",
            {
                "coefficients": [1.0] * 4,
                "rho": [0.1],
                "prob_a": [1.0],
                "prob_b": [0.0],
                "classlabels_ints": [0, 1],
            },
            "probabilities",
        ),
    ],
)
def test_what_is_no_matrix_product_stays_and_says_why(
    op: str, attributes: dict[str, object], reason: str
) -> None:
    outputs = ["y", "z"] if "Classifier" in op else ["y"]
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], outputs, name="node", domain="ai.onnx.ml", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    outcome = lower(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
        )
    )
    assert reason in outcome.notes[0]


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
@pytest.mark.parametrize("opset", [11, 17, 18])
def test_normalizer(same: Same, rng: np.random.Generator, norm: str, opset: int) -> None:
    x = features(rng)
    x[0], x[1] = 0, -np.abs(x[1])
    same("Normalizer", ["x"], {"x": x}, opset=opset, norm=norm, **ML)


@pytest.mark.parametrize("scale", [[2.0], [1.0, -2.0, 0.5, 3.0]])
def test_scaler(same: Same, rng: np.random.Generator, scale: list[float]) -> None:
    same("Scaler", ["x"], {"x": features(rng)}, scale=scale, offset=[0.5] * len(scale), **ML)
    same(
        "Scaler",
        ["x"],
        {"x": np.arange(8).reshape(2, 4)},
        scale=scale,
        offset=[0.5] * len(scale),
        **ML,
    )


@pytest.mark.parametrize("replaced", [float("nan"), -1.0])
def test_imputer(same: Same, rng: np.random.Generator, replaced: float) -> None:
    x = features(rng)
    x[::3, 1] = replaced
    same(
        "Imputer",
        ["x"],
        {"x": x},
        imputed_value_floats=[1.0, 2.0, 3.0, 4.0],
        replaced_value_float=replaced,
        **ML,
    )


def test_binarizer_and_columns(same: Same, rng: np.random.Generator) -> None:
    same("Binarizer", ["x"], {"x": features(rng)}, threshold=0.25, **ML)
    same(
        "ArrayFeatureExtractor",
        ["x", "c"],
        {"x": features(rng), "c": np.array([3, 0, 3], np.int64)},
        constants=["c"],
        **ML,
    )


def test_codes_and_columns_side_by_side(same: Same, rng: np.random.Generator) -> None:
    same(
        "OneHotEncoder",
        ["x"],
        {"x": np.array([[1, 3], [2, 7]], np.int64)},
        cats_int64s=[1, 2, 3],
        zeros=1,
        **ML,
    )
    wide = {"x": features(rng), "v": rng.normal(size=(60, 2)).astype(np.float32)}
    with_sizes = {"symbolic": False, "inputdimensions": [4, 2]}
    same("FeatureVectorizer", ["x", "v"], wide, **with_sizes, **ML)
