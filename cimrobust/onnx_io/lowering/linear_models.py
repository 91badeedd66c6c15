"""Linear models of ai.onnx.ml, as scikit-learn's converters write them.

Their weights are attributes, and become initializers.

Decisions at zero, and what becomes of one score for two classes, are those of onnxruntime; the
description of the operators leaves them open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import reshape
from cimrobust.onnx_io.walk import attributes

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float32
    from cimrobust.onnx_io.lowering.job import Job

_AXES_INPUT_SINCE = 13
_TEXT_LABELS = "classlabels_strings"


def _number(job: Job, value: float) -> str:
    return job.constant(np.asarray(value, np.float32), "number")


def features(job: Job) -> str:
    """Return the input in float32, [samples, features]."""
    name = job.input(0)
    floats = (
        name
        if job.elem_type(name) == TensorProto.FLOAT
        else job.add("Cast", name, to=TensorProto.FLOAT)
    )
    return reshape(job, floats, 1, -1) if job.rank(name) == 1 else floats


def _matrix(
    values: Sequence[float], rows: int, what: str
) -> Float32[np.ndarray, "outputs features"]:
    """Return coefficients as [outputs, features]."""
    if rows <= 0 or not values or len(values) % rows:
        raise StaysError(f"it has {len(values)} {what} for {rows} outputs")
    return np.asarray(values, np.float32).reshape(rows, -1)


def _scores(
    job: Job,
    coefficients: Float32[np.ndarray, "outputs features"],
    intercepts: Float[np.ndarray, "outputs"],
) -> str:
    """Return the weighted sums of the features, one an output."""
    label = job.node.name
    note = (
        f"the coefficients of '{label}' are stored as {{}}, {coefficients.shape[0]} x"
        f" {coefficients.shape[1]}"
    )
    weight = job.weight(label, coefficients, "coefficients", note=note)
    bias = job.weight(label, intercepts.astype(np.float32), "intercepts")
    return job.add("Gemm", features(job), weight, bias, transB=1)


def _intercepts(values: Sequence[float], count: int) -> Float[np.ndarray, "outputs"]:
    given = np.asarray(values if values else [0.0], np.float32)
    if given.size not in (1, count):
        raise StaysError(f"it has {given.size} intercepts for {count} outputs")
    return np.broadcast_to(given, (count,)).copy()


def _transformed(job: Job, scores: str, kind: str) -> str:
    """Apply the transformation of scores that a node states."""
    if kind in ("", "NONE"):
        return scores
    if kind == "LOGISTIC":
        return job.add("Sigmoid", scores)
    if kind == "SOFTMAX":
        return job.add("Softmax", scores, axis=1)
    if kind == "SOFTMAX_ZERO":
        return _softmax_zero(job, scores)
    raise StaysError(f"its post_transform {kind} is not covered")


def _reduced(job: Job, op: str, name: str) -> str:
    """Reduce the features of a sample to one number and keep the axis."""
    by_input = _AXES_INPUT_SINCE if op == "ReduceSum" else 18
    return (
        job.add(op, name, job.axes(1), keepdims=1)
        if job.opset >= by_input
        else job.add(op, name, axes=[1], keepdims=1)
    )


def _softmax_zero(job: Job, scores: str) -> str:
    """Softmax over the scores that are not zero; the others stay zero."""
    parts = job.add("Exp", job.add("Sub", scores, _reduced(job, "ReduceMax", scores)))
    counts = job.add("Greater", job.add("Abs", scores), _number(job, 1e-7))
    kept = job.add("Mul", parts, job.add("Cast", counts, to=TensorProto.FLOAT))
    return job.add("Div", kept, _reduced(job, "ReduceSum", kept))


def _two_classes(job: Job, score: str, kind: str) -> str:
    """Return the scores of two classes from that of the second."""
    second = _transformed(job, score, "LOGISTIC" if kind == "LOGISTIC" else "NONE")
    if kind == "PROBIT":
        raise StaysError("its post_transform PROBIT is not covered")
    return job.add("Concat", job.add("Sub", _number(job, 1.0), second), second, axis=1)


def _label(job: Job, index: str) -> str:
    """Return the label of every sample from the index of its class, int64 [samples]."""
    stated = attributes(job.node)
    texts, numbers = stated.get(_TEXT_LABELS) or [], job.integers("classlabels_ints")
    if not texts and numbers == list(range(len(numbers))):
        return index
    values = (
        np.asarray(texts, object)
        if isinstance(texts, list) and texts
        else np.asarray(numbers, np.int64)
    )
    return job.add("Gather", job.constant(values, "labels"), index, axis=0)


def _num_labels(job: Job) -> int:
    texts = attributes(job.node).get(_TEXT_LABELS)
    return (
        len(texts) if isinstance(texts, list) and texts else len(job.integers("classlabels_ints"))
    )


def _best(job: Job, scores: str) -> str:
    return job.add("ArgMax", scores, axis=1, keepdims=0)


@lowers("ai.onnx.ml::LinearRegressor")
def linear_regressor(job: Job) -> None:
    """Gemm."""
    count = job.integer("targets", 1)
    coefficients = _matrix(job.numbers("coefficients"), count, "coefficients")
    if job.text("post_transform", "NONE") not in ("", "NONE"):
        raise StaysError(f"its post_transform {job.text('post_transform')} is not covered")
    job.finish(_scores(job, coefficients, _intercepts(job.numbers("intercepts"), count)))


@lowers("ai.onnx.ml::LinearClassifier")
def linear_classifier(job: Job) -> None:
    """Gemm, ArgMax, and Sigmoid or Softmax."""
    intercepts, kind = job.numbers("intercepts"), job.text("post_transform", "NONE")
    num_labels = _num_labels(job)
    count = len(intercepts) or num_labels
    scores = _scores(
        job,
        _matrix(job.numbers("coefficients"), count, "coefficients"),
        _intercepts(intercepts, count),
    )
    if count == 1 and num_labels == 2:
        # The second class where its score is positive: it is then larger than its opposite.
        job.finish(
            _label(job, _best(job, job.add("Concat", job.add("Neg", scores), scores, axis=1))),
            _two_classes(job, scores, kind),
        )
        return
    if count != num_labels:
        raise StaysError(f"it has {count} scores for {num_labels} labels")
    job.finish(_label(job, _best(job, scores)), _transformed(job, scores, kind))


def _linear_kernel(job: Job) -> None:
    if job.text("kernel_type", "LINEAR") != "LINEAR":
        raise StaysError(
            f"its kernel {job.text('kernel_type')} is not linear, so it is no matrix product with"
            " its input"
        )


@lowers("ai.onnx.ml::SVMRegressor")
def svm_regressor(job: Job) -> None:
    """Gemm, with the support vectors of a linear kernel added up."""
    _linear_kernel(job)
    coefficients, vectors = job.numbers("coefficients"), job.integer("n_supports", 0)
    weights = np.asarray(coefficients, np.float32)[None, :]
    if vectors:
        weights = weights @ _matrix(job.numbers("support_vectors"), vectors, "support vectors")
    # onnxruntime does not look at post_transform here.
    scores = _scores(job, weights, _intercepts(job.numbers("rho"), 1))
    if job.integer("one_class", 0):
        positive = job.add(
            "Cast", job.add("Greater", scores, _number(job, 0.0)), to=TensorProto.FLOAT
        )
        scores = job.add("Sub", job.add("Mul", positive, _number(job, 2.0)), _number(job, 1.0))
    job.finish(scores)


@lowers("ai.onnx.ml::SVMClassifier")
def svm_classifier(job: Job) -> None:
    """Gemm, ArgMax, and Sigmoid or Softmax; linear support vectors of two classes added up."""
    _linear_kernel(job)
    if job.numbers("prob_a") or job.numbers("prob_b"):
        raise StaysError("it computes probabilities from its scores")
    count, kind, coefficients = (
        _num_labels(job),
        job.text("post_transform", "NONE"),
        job.numbers("coefficients"),
    )
    if not job.integers("vectors_per_class"):
        scores = _scores(
            job,
            _matrix(coefficients, count, "coefficients"),
            _intercepts(job.numbers("rho")[:1], count),
        )
        best = _best(job, scores)
        if count == 2:
            best = job.add(
                "Cast",
                job.add("Greater", _reduced(job, "ReduceMax", scores), _number(job, 0.0)),
                to=TensorProto.INT64,
            )
            best = reshape(job, best, -1)
        job.finish(_label(job, best), _transformed(job, scores, kind))
        return
    if count != 2:
        raise StaysError(f"its {count} classes vote in pairs")
    vectors = _matrix(
        job.numbers("support_vectors"), sum(job.integers("vectors_per_class")), "support vectors"
    )
    score = _scores(
        job,
        np.asarray(coefficients, np.float32)[None, :] @ vectors,
        _intercepts(job.numbers("rho")[:1], 1),
    )
    both = job.add("Concat", job.add("Neg", score), score, axis=1)
    # The first class where the score is positive, although its score is then the smaller one.
    best = reshape(
        job,
        job.add(
            "Cast",
            job.add("Not", job.add("Greater", score, _number(job, 0.0))),
            to=TensorProto.INT64,
        ),
        -1,
    )
    if kind not in ("", "NONE", "LOGISTIC"):
        raise StaysError(f"its post_transform {kind} is not covered")
    job.finish(_label(job, best), _transformed(job, both, kind))
