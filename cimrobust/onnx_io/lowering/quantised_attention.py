"""Attention and embeddings of quantised transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.onnx_io.lowering.attention import SINCE
from cimrobust.onnx_io.lowering.embeddings import finish_embedding
from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.self_attention import finish_attention
from cimrobust.onnx_io.lowering.standard_nodes import require_opset, reshape

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

_PER_AXIS_SINCE = 13


@lowers("com.microsoft::QAttention")
def quantised_attention(job: Job) -> None:
    """DequantizeLinear, MatMul, Add, then as Attention."""
    require_opset(job, SINCE)
    if job.integer("do_rotary", 0) or job.integer("past_present_share_buffer", 0):
        raise StaysError(
            "rotary embedding and shared buffers inside QAttention are for other processors"
        )
    data, weight, bias, data_scale, weight_scale, mask, data_zero, weight_zero, past = (
        job.input(index) for index in range(9)
    )
    kind = job.elem_type(job.known(bias, data_scale, weight_scale))
    floats = job.add("DequantizeLinear", data, _scalar(job, data_scale), _scalar(job, data_zero))
    levels = _weight(job, weight, weight_scale, weight_zero)
    projected = job.add("Add", job.add("MatMul", floats, levels), bias)
    finish_attention(job, projected, mask, past, "", kind)


def _scalar(job: Job, name: str) -> str:
    """Return one number without axes."""
    known = job.types.get(name)
    return name if not name or (known is not None and known.shape == ()) else reshape(job, name)


def _weight(job: Job, weight: str, scale: str, zero: str) -> str:
    """Return a weight as real numbers: one scale in all, or one a column."""
    shape = job.shape(scale)
    if shape in ((), (1,)):
        return job.add("DequantizeLinear", weight, _scalar(job, scale), _scalar(job, zero))
    require_opset(job, _PER_AXIS_SINCE)
    if zero and job.shape(zero) != shape:
        raise StaysError("it has one scale a column and one zero point in all")
    return job.add("DequantizeLinear", weight, scale, zero, axis=1)


@lowers("com.microsoft::QEmbedLayerNormalization")
def quantised_embedding(job: Job) -> None:
    """Gather, DequantizeLinear, Add, LayerNormalization."""
    require_opset(job, SINCE)
    ids, segments = job.input(0), job.input(1)
    kind = job.elem_type(job.known(job.input(8), job.input(9)))

    def real(index: int) -> tuple[str, str]:
        return _scalar(job, job.input(8 + index)), _scalar(job, job.input(13 + index))

    tables = [job.input(2 + index) for index in range(3)]
    gamma, beta = (
        job.add("DequantizeLinear", job.input(5 + index), *real(3 + index)) for index in range(2)
    )
    finish_embedding(
        job,
        (ids, "", segments),
        tables,
        lambda index, rows: job.add("DequantizeLinear", rows, *real(index)),
        gamma=gamma,
        beta=beta,
        mask=job.input(7),
        elem_type=kind,
    )
