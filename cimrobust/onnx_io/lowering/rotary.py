"""Rotary position embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.onnx_io.lowering.attention import as_int64
from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import (
    END,
    part,
    require_opset,
    reshape,
    size_of,
    steps,
    unsqueeze,
)

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

_SINCE = 11


def rotate(
    job: Job, x: str, cos: str, sin: str, half: int, *, interleaved: bool, has_rest: bool
) -> str:
    """Turn pairs of elements of the last axis of [batch, heads, positions, head size] by angles.

    Args:
        job: The node.
        x: What is turned.
        cos: [batch or 1, 1, positions, half].
        sin: Likewise.
        half: Number of pairs.
        interleaved: Pairs are neighbours; else the first half pairs with the second.
        has_rest: Elements follow that stay as they are.
    """
    if interleaved:
        first, second = part(job, x, 3, 0, 2 * half, 2), part(job, x, 3, 1, 2 * half, 2)
    else:
        first, second = part(job, x, 3, 0, half), part(job, x, 3, half, 2 * half)
    real = job.add("Sub", job.add("Mul", first, cos), job.add("Mul", second, sin))
    imaginary = job.add("Add", job.add("Mul", first, sin), job.add("Mul", second, cos))
    if interleaved:
        pairs = job.add("Concat", unsqueeze(job, real, 4), unsqueeze(job, imaginary, 4), axis=4)
        turned = [reshape(job, pairs, 0, 0, 0, 2 * half)]
    else:
        turned = [real, imaginary]
    if has_rest:
        turned.append(part(job, x, 3, 2 * half, END))
    return turned[0] if len(turned) == 1 else job.add("Concat", *turned, axis=3)


def at_positions(job: Job, cache: str, positions: str) -> str:
    """Return a cache's rows for [batch or 1, positions], as [batch or 1, 1, positions, half]."""
    return unsqueeze(job, job.add("Gather", cache, positions, axis=0), 1)


def num_pairs(job: Job, cache: str) -> int:
    """Return the number of pairs that a cache of angles is for."""
    half = job.shape(cache)[-1]
    if not isinstance(half, int):
        raise StaysError(f"the width of its cache '{cache}' is not known")
    return half


@lowers("com.microsoft::RotaryEmbedding")
def rotary_embedding(job: Job) -> None:
    """Gather, Slice, Mul, Sub, Add, Concat."""
    require_opset(job, _SINCE)
    x, ids, cos, sin = (job.input(index) for index in range(4))
    half, rank = num_pairs(job, cos), job.rank(x)
    dim, num_heads = job.integer("rotary_embedding_dim", 0), job.integer("num_heads", 0)
    heads = _four_axes(job, x, rank, half, dim, num_heads)
    positions = as_int64(job, ids)
    if job.rank(ids) == 1:  # where the first position is; the others follow
        count = size_of(job, heads, 2)
        positions = job.add("Add", unsqueeze(job, steps(job, job.axes(0), count), 0), positions)
    cos, sin = (at_positions(job, cache, positions) for cache in (cos, sin))
    turned = rotate(
        job,
        heads,
        cos,
        sin,
        half,
        interleaved=bool(job.integer("interleaved", 0)),
        has_rest=bool(dim),
    )
    if rank == 4:
        job.finish(turned)
        return
    job.finish(reshape(job, job.add("Transpose", turned, perm=[0, 2, 1, 3]), 0, 0, -1))


def _four_axes(job: Job, x: str, rank: int, half: int, dim: int, num_heads: int) -> str:
    """Return [batch, heads, positions, head size]."""
    if rank == 4:
        return x
    if rank != 3:
        raise StaysError(f"its input has {rank} axes")
    split = reshape(job, x, 0, 0, num_heads, -1) if dim else reshape(job, x, 0, 0, -1, 2 * half)
    return job.add("Transpose", split, perm=[0, 2, 1, 3])
