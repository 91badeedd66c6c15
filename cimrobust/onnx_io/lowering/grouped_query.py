"""com.microsoft::GroupQueryAttention.

Fewer heads of keys than of queries, a cache, rotary positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.onnx_io.lowering.attention import as_int64, join_heads
from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.rotary import at_positions, num_pairs, rotate
from cimrobust.onnx_io.lowering.standard_nodes import (
    at_most,
    lowest,
    number,
    part,
    require_opset,
    reshape,
    size_of,
    squeeze,
    steps,
    unsqueeze,
)

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

#: GatherElements, Max and Min of integers.
_SINCE = 12

(
    _QUERY,
    _KEY,
    _VALUE,
    _PAST_KEY,
    _PAST_VALUE,
    _LAST_KEYS,
    _TOTAL,
    _COS,
    _SIN,
    _POSITIONS,
    _BIAS,
    _SINK,
) = range(12)

_ATTRIBUTES = {
    "sliding_window_cache": 0,
    "qk_output": 0,
    "k_quant_type": "NONE",
    "v_quant_type": "NONE",
}


@dataclass(frozen=True)
class _Places:
    """Positions in the sequence, int64.

    Attributes:
        batch: Number of samples, [1].
        count: Number of new positions, [1].
        total: Number of positions with those of the cache, of the longest sample, [1].
        past: Positions in the cache of each sample, [batch, 1].
        end: Positions of each sample with the new ones, [batch, 1].
        new: Positions of the queries, [batch, count].
    """

    batch: str
    count: str
    total: str
    past: str
    end: str
    new: str


@lowers("com.microsoft::GroupQueryAttention")
def group_query_attention(job: Job) -> None:
    """Gather, Slice, Concat, GatherElements, MatMul, Tanh, Where, Softmax, MatMul."""
    require_opset(job, _SINCE)
    _require_covered(job)
    num_heads, num_groups = job.integer("num_heads", 0), job.integer("kv_num_heads", 0)
    kind = job.elem_type(
        job.known(job.input(_QUERY), job.input(_KEY), job.input(_PAST_KEY), job.input(_COS))
    )
    query, key, value = _heads(job, num_heads, num_groups)
    places = _places(job)
    if job.integer("do_rotary", 0):
        query, key = _rotated(job, places, query, key)
    stored = [
        _with_past(job, places, new, past)
        for new, past in ((key, job.input(_PAST_KEY)), (value, job.input(_PAST_VALUE)))
    ]
    key, value = (_first_positions(job, tensor, places) for tensor in stored)
    if num_heads != num_groups:
        repeat = job.constant(
            np.arange(num_groups, dtype=np.int64).repeat(num_heads // num_groups), "repeat"
        )
        key, value = (job.add("Gather", tensor, repeat, axis=1) for tensor in (key, value))
    weights = _softmax(job, _scores(job, query, key, places, kind))
    job.finish(join_heads(job, job.add("MatMul", weights, value)), *stored)


def _require_covered(job: Job) -> None:
    for name, default in _ATTRIBUTES.items():
        stated = job.text(name, str(default))
        if stated != str(default):
            raise StaysError(f"{name} = {stated} is not covered")
    if any(job.input(index) for index in range(_SINK + 1, 17)):
        raise StaysError("quantised caches, normalised queries and padded chunks are not covered")
    if not job.input(_PAST_KEY) and job.input(_PAST_VALUE):
        raise StaysError("it has values of the past without keys")


def _heads(job: Job, num_heads: int, num_groups: int) -> tuple[str, str, str]:
    """Return query, key and value as [batch, heads, positions, head size]."""
    query, key, value = job.input(_QUERY), job.input(_KEY), job.input(_VALUE)
    if key:
        parts = [
            reshape(job, name, 0, 0, heads, -1)
            for name, heads in ((query, num_heads), (key, num_groups), (value, num_groups))
        ]
    else:
        packed = reshape(job, query, 0, 0, num_heads + 2 * num_groups, -1)
        borders = (0, num_heads, num_heads + num_groups, num_heads + 2 * num_groups)
        parts = [part(job, packed, 2, borders[index], borders[index + 1]) for index in range(3)]
    first, second, third = (job.add("Transpose", name, perm=[0, 2, 1, 3]) for name in parts)
    return first, second, third


def _places(job: Job) -> _Places:
    """Return the positions of cache, keys and queries."""
    batch, count = size_of(job, job.input(_QUERY), 0), size_of(job, job.input(_QUERY), 1)
    end = reshape(job, job.add("Add", as_int64(job, job.input(_LAST_KEYS)), job.axes(1)), -1, 1)
    total = reshape(job, as_int64(job, job.input(_TOTAL)), 1)
    past = job.add("Max", job.add("Sub", end, count), job.axes(0))
    new = job.add("Add", past, unsqueeze(job, steps(job, job.axes(0), count), 0))
    return _Places(batch, count, total, past, end, new)


def _rotated(job: Job, places: _Places, query: str, key: str) -> tuple[str, str]:
    """Turn queries and keys by the angles of their positions."""
    positions = places.new
    if job.input(_POSITIONS):
        given = as_int64(job, job.input(_POSITIONS))
        # In a first prompt onnxruntime reads one position and counts on from there.
        first = reshape(job, part(job, part(job, given, 0, 0, 1), 1, 0, 1), 1, 1)
        counted = job.add("Add", first, unsqueeze(job, steps(job, job.axes(0), places.count), 0))
        positions = job.add("Where", job.add("Equal", places.count, places.total), counted, given)
    half = num_pairs(job, job.input(_COS))
    cos, sin = (at_positions(job, job.input(index), positions) for index in (_COS, _SIN))
    is_interleaved = bool(job.integer("rotary_interleaved", 0))
    turned = [
        rotate(job, name, cos, sin, half, interleaved=is_interleaved, has_rest=_has_rest(job, half))
        for name in (query, key)
    ]
    return turned[0], turned[1]


def _has_rest(job: Job, half: int) -> bool:
    """Return whether a head may be wider than what is turned."""
    width = job.shape(job.input(_QUERY))[-1]
    heads = job.integer("num_heads", 0) + (
        0 if job.input(_KEY) else 2 * job.integer("kv_num_heads", 0)
    )
    return not isinstance(width, int) or width != 2 * half * heads


def _with_past(job: Job, places: _Places, new: str, past: str) -> str:
    """Return what the cache holds afterwards, [batch, heads, positions, head size].

    Positions past the end of a sample hold anything.
    """
    if not past:
        return new
    room = size_of(job, past, 2)
    length = job.add("Max", room, places.total)
    position = unsqueeze(job, steps(job, job.axes(0), length), 0)
    behind = job.add(
        "Min", job.add("Sub", position, places.past), job.add("Sub", places.count, job.axes(1))
    )
    row = job.add(
        "Where", job.add("Less", position, places.past), position, job.add("Add", behind, room)
    )
    both = job.add("Concat", past, new, axis=2)
    shape = job.add(
        "Concat",
        *(size_of(job, both, 0), size_of(job, both, 1), length, size_of(job, both, 3)),
        axis=0,
    )
    return job.add(
        "GatherElements", both, job.add("Expand", unsqueeze(job, row, 1, 3), shape), axis=2
    )


def _first_positions(job: Job, stored: str, places: _Places) -> str:
    """Return the part of a cache that may hold something."""
    return part(job, stored, 2, 0, places.total) if job.input(_PAST_KEY) else stored


def _scores(job: Job, query: str, key: str, places: _Places, kind: int) -> str:
    """Return scores [batch, heads, queries, keys], the lowest number where a query may not look."""
    product = job.add("MatMul", query, job.add("Transpose", key, perm=[0, 1, 3, 2]))
    scale = job.number("scale", 0.0)
    if scale:
        scores = job.add("Mul", product, number(job, scale, kind))
    else:
        scores = job.add(
            "Div",
            product,
            job.add("Sqrt", job.add("Cast", squeeze(job, size_of(job, query, 3), 0), to=kind)),
        )
    cap = job.number("softcap", 0.0)
    if cap > 0.0:
        bound = number(job, cap, kind)
        scores = job.add("Mul", job.add("Tanh", job.add("Div", scores, bound)), bound)
    if job.input(_BIAS):
        scores = job.add("Add", scores, job.input(_BIAS))
    return job.add("Where", _allowed(job, key, places), scores, number(job, lowest(kind), kind))


def _allowed(job: Job, key: str, places: _Places) -> str:
    """Return where a query may look at a key, [batch, 1, queries, keys]."""
    keys = unsqueeze(job, steps(job, job.axes(0), size_of(job, key, 2)), 0, 1)
    rows = unsqueeze(job, places.new, 2)
    stored = job.add("Less", keys, unsqueeze(job, places.end, 2))
    if not job.integer("causal", 1):
        return unsqueeze(job, stored, 1)
    allowed = job.add("And", at_most(job, keys, rows), stored)
    window = job.integer("local_window_size", -1)
    if window > 0:
        allowed = job.add(
            "And", allowed, job.add("Less", job.add("Sub", rows, keys), job.axes(window))
        )
    return unsqueeze(job, allowed, 1)


def _softmax(job: Job, scores: str) -> str:
    """Return the distribution over the keys; with a sink, some of it is on no key."""
    sink = job.input(_SINK)
    if not sink and not job.integer("smooth_softmax", 0):
        return job.add("Softmax", scores, axis=-1)
    first = part(job, scores, 3, 0, 1)
    zeros = job.add("Sub", first, first)
    extra = job.add("Add", zeros, reshape(job, sink, 1, -1, 1, 1)) if sink else zeros
    weights = job.add("Softmax", job.add("Concat", scores, extra, axis=3), axis=-1)
    return part(job, weights, 3, 0, -1)
