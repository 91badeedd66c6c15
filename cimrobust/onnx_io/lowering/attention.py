"""Attention of com.microsoft: projections, scores, masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from cimrobust.onnx_io.lowering.standard_nodes import (
    at_most,
    lowest,
    number,
    part,
    reshape,
    size_of,
    steps,
    total,
    unsqueeze,
)

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

#: Operator set that has all that masks are made of.
SINCE = 11


@dataclass(frozen=True)
class Heads:
    """Activations of one attention.

    Attributes:
        query: [batch, heads, queries, head size].
        key: [batch, heads, keys, head size].
        value: [batch, heads, keys, value head size].
        elem_type: Element type of all of them.
    """

    query: str
    key: str
    value: str
    elem_type: int


def split_heads(job: Job, name: str, num_heads: int) -> str:
    """[batch, positions, heads * size] to [batch, heads, positions, size]."""
    return job.add("Transpose", reshape(job, name, 0, 0, num_heads, -1), perm=[0, 2, 1, 3])


def join_heads(job: Job, name: str) -> str:
    """[batch, heads, positions, size] to [batch, positions, heads * size]."""
    return reshape(job, job.add("Transpose", name, perm=[0, 2, 1, 3]), 0, 0, -1)


def scores(job: Job, heads: Heads, head_size: str | int) -> str:
    """Return the scaled product of query and key^T.

    The scale is the one that the node states, or one over the root of the head size.
    """
    product = job.add("MatMul", heads.query, job.add("Transpose", heads.key, perm=[0, 1, 3, 2]))
    scale = job.number("scale", 0.0)
    if scale == 0.0 and isinstance(head_size, str):
        root = job.add("Sqrt", job.add("Cast", head_size, to=heads.elem_type))
        return job.add("Div", product, root)
    factor = scale or 1.0 / float(np.sqrt(np.float64(head_size)))
    return job.add("Mul", product, number(job, factor, heads.elem_type))


def mix(job: Job, weights: str, heads: Heads) -> str:
    """Return the values weighted by a distribution over the keys.

    The shape is [batch, queries, heads * value head size].
    """
    return join_heads(job, job.add("MatMul", weights, heads.value))


def causal(job: Job, num_queries: str, num_keys: str) -> str:
    """Return [queries, keys].

    Whether a query, of which the last belongs to the last key, may look at a key. Sizes are vectors
    of one int64.
    """
    rows = steps(job, job.add("Sub", num_keys, num_queries), num_keys)
    cols = steps(job, job.axes(0), num_keys)
    return at_most(job, unsqueeze(job, cols, 0), unsqueeze(job, rows, 1))


def lengths_mask(job: Job, lengths: str, batch: str, num_keys: str, *, has_starts: bool) -> str:
    """Return [batch, 1, 1, keys].

    Whether a key lies before the end of its row and not before the start.

    Args:
        job: The node.
        lengths: [batch] ends, or [2 batch] ends, then starts, int64.
        batch: Its size, a vector of one int64.
        num_keys: Likewise.
        has_starts: Starts may follow the ends.
    """
    cols = unsqueeze(job, steps(job, job.axes(0), num_keys), 0)
    ends = unsqueeze(job, part(job, lengths, 0, 0, batch), 1)
    inside = job.add("Less", cols, ends)
    if has_starts:
        # Zeros follow, so that there are starts whichever form the lengths have.
        zeros = job.add("Expand", job.axes(0), batch)
        both = job.add("Concat", lengths, zeros, axis=0)
        starts = part(job, both, 0, batch, job.add("Add", batch, batch))
        inside = job.add("And", inside, at_most(job, unsqueeze(job, starts, 1), cols))
    return unsqueeze(job, inside, 1, 2)


def additive(job: Job, allowed: str, causal_ones: str, elem_type: int) -> str:
    """Return what is added to scores.

    0 where allowed, the node's filter value elsewhere, the lowest number where causality forbids.

    Args:
        job: The node.
        allowed: Boolean, ``""`` for no mask.
        causal_ones: Boolean, ``""`` where the node is not causal.
        elem_type: Type of the scores.
    """
    zero = number(job, 0.0, elem_type)
    padding = zero
    if allowed:
        filter_value = max(job.number("mask_filter_value", -10000.0), lowest(elem_type))
        padding = job.add("Where", allowed, zero, number(job, filter_value, elem_type))
    if not causal_ones:
        return padding if allowed else ""
    return job.add("Where", causal_ones, padding, number(job, lowest(elem_type), elem_type))


def attend(job: Job, heads: Heads, head_size: str | int, bias: str, mask: str) -> str:
    """Return the output of the node, [batch, queries, heads * value head size]."""
    biased = total(job, scores(job, heads, head_size), bias, mask)
    return mix(job, job.add("Softmax", biased, axis=-1), heads)


def as_int64(job: Job, name: str) -> str:
    """Return integers as int64."""
    return job.add("Cast", name, to=TensorProto.INT64)


def num_positions(job: Job, heads: Heads) -> tuple[str, str]:
    """Return the numbers of queries and keys."""
    return size_of(job, heads.query, 2), size_of(job, heads.key, 2)
