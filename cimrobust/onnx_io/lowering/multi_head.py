"""com.microsoft::MultiHeadAttention: attention between given query, key and value.

The three may be packed or apart.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.onnx_io.lowering.attention import (
    SINCE,
    Heads,
    additive,
    as_int64,
    causal,
    lengths_mask,
    mix,
    num_positions,
    scores,
    split_heads,
)
from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import (
    END,
    part,
    require_opset,
    reshape,
    size_of,
    squeeze,
    total,
    unsqueeze,
)

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

_QUERY, _KEY, _VALUE, _BIAS, _MASK, _SCORE_BIAS, _PAST_KEY, _PAST_VALUE, _PAST_LENGTH, _BEAMS = (
    range(10)
)


@lowers("com.microsoft::MultiHeadAttention")
def multi_head_attention(job: Job) -> None:
    """Add, Reshape, Transpose, MatMul, Where, Softmax, MatMul."""
    require_opset(job, SINCE)
    if job.input(_PAST_LENGTH) or job.input(_BEAMS):
        raise StaysError("buffers shared between past and present, and beams, are not covered")
    heads = _heads(job)
    if job.input(_PAST_KEY):
        heads = replace(heads, key=job.add("Concat", job.input(_PAST_KEY), heads.key, axis=2))
    if job.input(_PAST_VALUE):
        heads = replace(heads, value=job.add("Concat", job.input(_PAST_VALUE), heads.value, axis=2))
    allowed = _allowed(job, heads)
    once = causal(job, *num_positions(job, heads)) if job.integer("unidirectional", 0) else ""
    biased = total(
        job,
        scores(job, heads, _head_size(job, heads)),
        job.input(_SCORE_BIAS),
        additive(job, allowed, once, heads.elem_type),
    )
    weights = job.add("Softmax", biased, axis=-1)
    job.finish(
        mix(job, weights, heads),
        heads.key if job.wants(1) else "",
        heads.value if job.wants(2) else "",
        weights if job.wants(3) else "",
    )


def _head_size(job: Job, heads: Heads) -> int | str:
    """Return the head size of the query.

    Where it is known only at run time, it is the name of a vector of one int64.
    """
    shape, num_heads = job.shape(job.input(_QUERY)), job.integer("num_heads", 0)
    size = shape[-1]
    if isinstance(size, int):
        return size if len(shape) == 5 else size // num_heads
    return squeeze(job, size_of(job, heads.query, 3), 0)


def _heads(job: Job) -> Heads:
    """Return query, key and value with the bias of their projections added, axes in one order."""
    query, key, value, num_heads = (
        job.input(_QUERY),
        job.input(_KEY),
        job.input(_VALUE),
        job.integer("num_heads", 0),
    )
    kind = job.elem_type(job.known(query, key, value, job.input(_BIAS), job.input(_SCORE_BIAS)))
    if job.rank(query) == 5:
        parts = [_unpacked(job, query, index) for index in range(3)]
    elif key and job.rank(key) == 5:
        parts = [query, _unpacked(job, key, 0), _unpacked(job, key, 1)]
    elif key and value:
        parts = [query, key, value]
    else:
        raise StaysError("it has a query of three axes and no key")
    biases = _biases(job, parts[0]) if job.input(_BIAS) else ["", "", ""]
    query, key, value = (
        _split(job, name, bias, num_heads, of_query=index == 0)
        for index, (name, bias) in enumerate(zip(parts, biases, strict=True))
    )
    return Heads(query, key, value, kind)


def _unpacked(job: Job, packed: str, index: int) -> str:
    """Return one of the packed tensors, as [batch, positions, heads * head size].

    They are packed into [batch, positions, heads, number, head size].
    """
    return reshape(job, part(job, packed, 3, index, index + 1), 0, 0, -1)


def _biases(job: Job, query: str) -> list[str]:
    """Cut the bias of the projections into those of query, key and value.

    The first two are as long as the query is wide.
    """
    bias = job.input(_BIAS)
    shape = job.shape(job.input(_QUERY))
    if len(shape) == 5:
        known = (shape[2], shape[4])
        width = (
            known[0] * known[1] if isinstance(known[0], int) and isinstance(known[1], int) else None
        )
    else:
        width = shape[2] if isinstance(shape[2], int) else None
    if width is None:
        once = size_of(job, query, 2)
        twice = job.add("Add", once, once)
        return [
            part(job, bias, 0, 0, once),
            part(job, bias, 0, once, twice),
            part(job, bias, 0, twice, END),
        ]
    return [
        part(job, bias, 0, 0, width),
        part(job, bias, 0, width, 2 * width),
        part(job, bias, 0, 2 * width, END),
    ]


def _split(job: Job, name: str, bias: str, num_heads: int, *, of_query: bool) -> str:
    """Return a tensor as [batch, heads, positions, head size].

    Keys and values of four axes have that shape already.
    """
    is_split = not of_query and name in job.node.input and job.rank(name) == 4
    if is_split:
        return name  # onnxruntime adds no bias to them
    return split_heads(job, total(job, name, bias), num_heads)


def _allowed(job: Job, heads: Heads) -> str:
    """Return where a query may look at a key, ``""`` for everywhere."""
    mask = job.input(_MASK)
    if not mask:
        return ""
    rank = job.rank(mask)
    if rank == 1:
        return lengths_mask(
            job,
            as_int64(job, mask),
            size_of(job, heads.query, 0),
            num_positions(job, heads)[1],
            has_starts=False,
        )
    if rank > 3:
        raise StaysError(f"its mask has {rank} axes")
    positive = job.add("Greater", as_int64(job, mask), job.axes(0))
    return unsqueeze(job, positive, 1) if rank == 3 else unsqueeze(job, positive, 1, 2)
