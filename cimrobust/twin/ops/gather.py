"""Slice, what gathers and scatters elements, NonZero, OneHot, Compress."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Int, Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.torch_tensors import index_of, numbers


def sliced(
    x: Shaped[Tensor, "..."],
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Shaped[Tensor, "..."]:
    """Return a slice as NumPy would take it; negative steps go through the reversed tensor."""
    axes = axes or range(len(starts))
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        axis %= x.dim()
        low, high, stride = slice(start, end, step).indices(x.shape[axis])
        if stride > 0:
            index = (slice(None),) * axis + (slice(low, max(high, low), stride),)
            x = x[index]
        else:
            positions = torch.arange(low, min(high, low), stride, device=x.device)
            x = x.index_select(axis, positions)
    return x


@operator("Slice", until=9)
def slice_1(node: Node) -> Kernel:
    """Slice-1: everything is an attribute."""
    starts, ends, axes = list(node.get("starts")), list(node.get("ends")), node.get("axes")
    return lambda x: sliced(x, starts, ends, axes, None)


@operator("Slice", since=10)
def slice_10(node: Node) -> Kernel:
    """Slice-10: everything is an input."""

    def run(
        x: Shaped[Tensor, "..."],
        starts: Int[Tensor, "slices"],
        ends: Int[Tensor, "slices"],
        axes: Int[Tensor, "slices"] | None = None,
        steps: Int[Tensor, "slices"] | None = None,
    ) -> Shaped[Tensor, "..."]:
        chosen = None if axes is None else numbers(axes)
        return sliced(
            x, numbers(starts), numbers(ends), chosen, None if steps is None else numbers(steps)
        )

    return run


def _from_end(indices: Int[Tensor, "*shape"], length: int) -> Int[Tensor, "*shape"]:
    return torch.where(indices < 0, indices + length, indices)


@operator("GatherElements")
def gather_elements(node: Node) -> Kernel:
    """GatherElements-11."""
    axis = node.get("axis", 0)
    return lambda x, indices: torch.gather(x, axis, _from_end(index_of(indices, x), x.shape[axis]))


@operator("GatherND")
def gather_nd(node: Node) -> Kernel:
    """GatherND-11: the last axis of the indices addresses the axes after the batch axes."""
    batch_dims = node.get("batch_dims", 0)

    def run(
        x: Shaped[Tensor, "..."], indices: Shaped[Tensor, "*places depth"]
    ) -> Shaped[Tensor, "..."]:
        where = index_of(indices, x)
        depth = where.shape[-1]
        lead = x.shape[:batch_dims]
        flat_x = x.reshape(-1, *x.shape[batch_dims:])
        flat = where.reshape(flat_x.shape[0], -1, depth)
        batch = torch.arange(flat.shape[0], device=x.device).unsqueeze(1).expand(flat.shape[:2])
        result = flat_x[(batch, *(flat[..., index] for index in range(depth)))]
        return result.reshape(*lead, *where.shape[batch_dims:-1], *x.shape[batch_dims + depth :])

    return run


REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Kernel:
    """ScatterElements-11 and the older Scatter; reductions of opset 16 and 18."""
    axis, mode = node.get("axis", 0), node.get("reduction", "none")

    def run(
        x: Shaped[Tensor, "*shape"],
        indices: Shaped[Tensor, "*places"],
        updates: Shaped[Tensor, "*places"],
    ) -> Shaped[Tensor, "*shape"]:
        where = _from_end(index_of(indices, x), x.shape[axis])
        updates = updates.to(x.device)
        if mode == "none":
            return x.scatter(axis, where, updates)
        return x.scatter_reduce(axis, where, updates, REDUCE[mode])

    return run


@operator("ScatterND")
def scatter_nd(node: Node) -> Kernel:
    """ScatterND-11; reductions of opset 16 and 18."""
    mode = node.get("reduction", "none")

    def run(
        x: Shaped[Tensor, "*shape"],
        indices: Shaped[Tensor, "*places depth"],
        updates: Shaped[Tensor, "..."],
    ) -> Shaped[Tensor, "*shape"]:
        where, updates = index_of(indices, x), updates.to(x.device)
        depth = where.shape[-1]
        index = tuple(_from_end(where[..., axis], x.shape[axis]) for axis in range(depth))
        if mode in ("none", "add"):
            return x.index_put(index, updates, accumulate=mode == "add")
        flat = torch.zeros_like(index[0])
        for axis in range(depth):
            flat = flat * x.shape[axis] + index[axis]
        rest = x.shape[depth:]
        rows = x.reshape(-1, *rest)
        values = updates.reshape(-1, *rest)
        spread = flat.reshape(-1, *(1,) * len(rest)).expand(values.shape)
        return rows.scatter_reduce(0, spread, values, REDUCE[mode]).reshape(x.shape)

    return run


@operator("NonZero")
def non_zero(node: Node) -> Kernel:
    """NonZero-9: indices of non-zero elements, one row an axis."""
    return lambda x: torch.nonzero(x).t()


@operator("OneHot")
def one_hot(node: Node) -> Kernel:
    """OneHot-9: indices outside the depth give no entry."""
    axis = node.get("axis", -1)

    def run(
        indices: Shaped[Tensor, "..."], depth: Shaped[Tensor, "..."], values: Shaped[Tensor, "2"]
    ) -> Shaped[Tensor, "..."]:
        count = int(depth)
        where = indices.to(device=values.device, dtype=torch.int64)
        where = torch.where(where < 0, where + count, where)
        steps = torch.arange(count, device=values.device)
        hot = where.unsqueeze(-1) == steps
        hot = hot.movedim(-1, axis if axis >= 0 else axis + hot.dim())
        return torch.where(hot, values[1], values[0])

    return run


@operator("Compress")
def compress(node: Node) -> Kernel:
    """Compress-9: entries along an axis where the condition holds.

    Of the flattened tensor without an axis.
    """
    axis = node.get("axis")

    def run(x: Shaped[Tensor, "..."], condition: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        chosen = torch.nonzero(condition.flatten()).flatten().to(x.device)
        return x.flatten().index_select(0, chosen) if axis is None else x.index_select(axis, chosen)

    return run


@operator("Trilu")
def trilu(node: Node) -> Kernel:
    """Trilu-14: upper or lower triangle."""
    function = torch.triu if node.get("upper", 1) else torch.tril
    return lambda x, k=None: function(x, 0 if k is None else int(k))


@operator("DepthToSpace")
def depth_to_space(node: Node) -> Kernel:
    """DepthToSpace, both orders."""
    block, mode = int(node.get("blocksize")), node.get("mode", "DCR")

    def run(
        x: Shaped[Tensor, "samples _channels _rows _columns"],
    ) -> Shaped[Tensor, "samples _channels _rows _columns"]:
        if mode == "CRD":
            return F.pixel_shuffle(x, block)
        n, c, h, w = x.shape
        y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return y.reshape(n, c // block**2, h * block, w * block)

    return run


@operator("SpaceToDepth")
def space_to_depth(node: Node) -> Kernel:
    """SpaceToDepth: the block is the slowest axis."""
    block, mode = int(node.get("blocksize")), node.get("mode", "DCR")

    def run(
        x: Shaped[Tensor, "samples _channels _rows _columns"],
    ) -> Shaped[Tensor, "samples _channels _rows _columns"]:
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // block, block, w // block, block)
        order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
        return y.permute(order).reshape(n, c * block**2, h // block, w // block)

    return run
