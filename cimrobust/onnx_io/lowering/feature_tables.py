"""What ai.onnx.ml does to tables of features before a model.

Scaling, normalising, filling in, encoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import unsqueeze
from cimrobust.onnx_io.walk import attributes

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.onnx_io.lowering.job import Job

_REDUCE_AXES_INPUT_SINCE = 18
_GREATER_SINCE = 9
_EQUAL_FLOAT_SINCE = 11


def _require(job: Job, least: int) -> None:
    if job.opset < least:
        raise StaysError(
            f"the model is of operator set {job.opset}, the nodes that take its place need {least}"
            " or newer"
        )


def _floats(job: Job, name: str) -> str:
    return (
        name
        if job.elem_type(name) == TensorProto.FLOAT
        else job.add("Cast", name, to=TensorProto.FLOAT)
    )


def _row(job: Job, name: str, default: float) -> Float32[np.ndarray, "features"]:
    """Return an attribute of one number, or one a feature."""
    return np.asarray(job.numbers(name) or [default], np.float32)


@lowers("ai.onnx.ml::Scaler")
def scaler(job: Job) -> None:
    """Sub, Mul."""
    moved = job.add(
        "Sub", _floats(job, job.input(0)), job.constant(_row(job, "offset", 0.0), "offset")
    )
    job.finish(job.add("Mul", moved, job.constant(_row(job, "scale", 1.0), "scale")))


@lowers("ai.onnx.ml::Normalizer")
def normalizer(job: Job) -> None:
    """ReduceMax, ReduceL1 or ReduceL2, and Div; samples of zeros stay zeros."""
    _require(job, _GREATER_SINCE)
    kind = job.text("norm", "MAX")
    if kind not in ("MAX", "L1", "L2"):
        raise StaysError(f"its norm {kind} is not covered")
    x, axis = _floats(job, job.input(0)), job.rank(job.input(0)) - 1
    op = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[kind]
    size = (
        job.add(op, x, job.axes(axis), keepdims=1)
        if job.opset >= _REDUCE_AXES_INPUT_SINCE
        else job.add(op, x, axes=[axis], keepdims=1)
    )
    one = job.constant(np.asarray(1.0, np.float32), "number")
    is_zero = job.add("Not", job.add("Cast", size, to=TensorProto.BOOL))
    job.finish(job.add("Div", x, job.add("Where", is_zero, one, size)))


@lowers("ai.onnx.ml::Imputer")
def imputer(job: Job) -> None:
    """IsNaN or Equal, and Where."""
    if job.integers("imputed_value_int64s") and not job.numbers("imputed_value_floats"):
        raise StaysError("it replaces integers")
    _require(job, _EQUAL_FLOAT_SINCE)
    wanted = job.number("replaced_value_float", 0.0)
    x = _floats(job, job.input(0))
    missing = (
        job.add("IsNaN", x)
        if np.isnan(wanted)
        else job.add("Equal", x, job.constant(np.asarray(wanted, np.float32), "number"))
    )
    job.finish(
        job.add(
            "Where", missing, job.constant(_row(job, "imputed_value_floats", 0.0), "imputed"), x
        )
    )


@lowers("ai.onnx.ml::Binarizer")
def binarizer(job: Job) -> None:
    """Greater, Cast."""
    _require(job, _GREATER_SINCE)
    above = job.add(
        "Greater",
        _floats(job, job.input(0)),
        job.constant(np.asarray(job.number("threshold", 0.0), np.float32), "number"),
    )
    job.finish(job.add("Cast", above, to=TensorProto.FLOAT))


@lowers("ai.onnx.ml::ArrayFeatureExtractor", widens=False)
def array_feature_extractor(job: Job) -> None:
    """Gather along the last axis."""
    chosen = job.value(job.input(1))
    if chosen is None or job.rank(job.input(0)) < 2:
        raise StaysError("its indices are not constant, or its input has one axis")
    job.finish(
        job.add(
            "Gather",
            job.input(0),
            job.constant(chosen.reshape(-1).astype(np.int64), "columns"),
            axis=-1,
        )
    )


@lowers("ai.onnx.ml::FeatureVectorizer")
def feature_vectorizer(job: Job) -> None:
    """Cast, Concat."""
    names = [name for name in job.node.input if name]
    sizes = [job.shape(name)[-1] for name in names]
    if any(job.rank(name) != 2 for name in names) or sizes != job.integers("inputdimensions"):
        raise StaysError("its inputs are not matrices of the widths that it states")
    job.finish(job.add("Concat", *[_floats(job, name) for name in names], axis=1))


@lowers("ai.onnx.ml::OneHotEncoder")
def one_hot_encoder(job: Job) -> None:
    """Unsqueeze, Equal, Cast."""
    categories, x = job.integers("cats_int64s"), job.input(0)
    if not categories or attributes(job.node).get("cats_strings") or not job.integer("zeros", 1):
        raise StaysError("its categories are texts, or what is none of them is an error")
    _require(job, _EQUAL_FLOAT_SINCE)
    if job.elem_type(x) == TensorProto.STRING:
        raise StaysError("its input is text")
    numbers = job.add("Cast", x, to=TensorProto.INT64)
    same = job.add(
        "Equal",
        unsqueeze(job, numbers, job.rank(x)),
        job.constant(np.asarray(categories, np.int64), "categories"),
    )
    job.finish(job.add("Cast", same, to=TensorProto.FLOAT))
