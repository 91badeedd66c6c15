"""com.microsoft::Attention: projection to query, key and value in one matrix, and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.onnx_io.lowering.attention import (
    SINCE,
    Heads,
    additive,
    as_int64,
    attend,
    causal,
    lengths_mask,
    num_positions,
    split_heads,
)
from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import part, require_opset, size_of, total, unsqueeze

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job


@lowers("com.microsoft::Attention")
def attention(job: Job) -> None:
    """MatMul, Slice, Transpose, MatMul, Where, Softmax, MatMul."""
    require_opset(job, SINCE)
    if job.integer("do_rotary", 0) or job.integer("past_present_share_buffer", 0):
        raise StaysError(
            "rotary embedding and shared buffers inside Attention are for other processors"
        )
    kind = job.elem_type(job.known(job.input(0), job.input(1), job.input(2)))
    projected = total(job, job.add("MatMul", job.input(0), job.input(1)), job.input(2))
    finish_attention(job, projected, job.input(3), job.input(4), job.input(5), kind)


def finish_attention(job: Job, projected: str, mask: str, past: str, bias: str, kind: int) -> None:
    """Add what follows the projection to query, key and value side by side."""
    num_heads, sizes = job.integer("num_heads", 0), _hidden_sizes(job)
    if num_heads <= 0 or any(size % num_heads for size in sizes):
        raise StaysError(f"its hidden sizes {sizes} are no multiples of {num_heads} heads")
    borders = [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]
    query, key, value = (
        split_heads(job, part(job, projected, 2, borders[i], borders[i + 1]), num_heads)
        for i in range(3)
    )
    if past:
        key, value = (
            job.add("Concat", _half(job, past, index), new, axis=2)
            for index, new in enumerate((key, value))
        )
    present = (
        job.add("Concat", *(unsqueeze(job, new, 0) for new in (key, value)), axis=0)
        if job.wants(1)
        else ""
    )
    heads = Heads(query, key, value, kind)
    added = additive(job, _allowed(job, mask, heads), _causal(job, heads), kind)
    job.finish(attend(job, heads, sizes[0] // num_heads, bias, added), present)


def _hidden_sizes(job: Job) -> list[int]:
    sizes = job.integers("qkv_hidden_sizes")
    if sizes:
        return sizes
    width = job.shape(job.input(1))[-1]
    if not isinstance(width, int) or width % 3:
        raise StaysError("the width of its weights is not known, or no multiple of 3")
    return [width // 3] * 3


def _half(job: Job, past: str, index: int) -> str:
    """Return the keys or the values of [2, batch, heads, positions, head size]."""
    return job.add("Gather", past, job.index(index), axis=0)


def _causal(job: Job, heads: Heads) -> str:
    return causal(job, *num_positions(job, heads)) if job.integer("unidirectional", 0) else ""


def _allowed(job: Job, mask: str, heads: Heads) -> str:
    """Return where a query may look at a key, ``""`` for everywhere."""
    if not mask:
        return ""
    rank = job.rank(mask)
    if rank == 1:
        batch, (_num_queries, num_keys) = size_of(job, heads.query, 0), num_positions(job, heads)
        is_ends = job.shape(mask)[0] is not None and job.shape(mask)[0] == job.batch(job.input(0))
        return lengths_mask(job, as_int64(job, mask), batch, num_keys, has_starts=not is_ends)
    if rank > 3:
        raise StaysError(
            f"its mask has {rank} axes, which onnxruntime takes on other processors alone"
        )
    if rank == 2 and job.shape(mask)[1] == 1 and job.integer("unidirectional", 0):
        return ""  # a mask of one column stands for no padding
    positive = job.add("Greater", as_int64(job, mask), job.axes(0))
    return unsqueeze(job, positive, 1) if rank == 3 else unsqueeze(job, positive, 1, 2)
