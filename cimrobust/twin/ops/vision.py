"""Operators of vision models: GridSample, NonMaxSuppression, Col2Im."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int, Int64, Real
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.torch_tensors import numbers


@operator("GridSample")
def grid_sample(node: Node) -> Kernel:
    """GridSample-16 and on; the names of the modes changed in opset 20."""
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(
        node.get("mode", "linear"), node.get("mode", "linear")
    )
    padding, align = node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0))
    return lambda x, grid: F.grid_sample(
        x, grid, mode=mode, padding_mode=padding, align_corners=align
    )


@operator("Col2Im")
def col2im(node: Node) -> Kernel:
    """Col2Im-18, in two dimensions."""
    dilations, strides = (
        tuple(node.get("dilations") or (1, 1)),
        tuple(node.get("strides") or (1, 1)),
    )
    pads = node.get("pads") or [0, 0, 0, 0]

    def run(
        x: Float[Tensor, "samples columns blocks"],
        image: Int[Tensor, "2"],
        block: Int[Tensor, "2"],
    ) -> Float[Tensor, "samples channels rows columns_of_image"]:
        size = numbers(image)
        whole = (size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3])
        y = F.fold(x, whole, tuple(numbers(block)), dilations, 0, strides)
        return y[..., pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]]

    return run


def _corners(boxes: Float[Tensor, "boxes 4"], centred: bool) -> Float[Tensor, "boxes 4"]:
    """Return boxes as (low, high) of both axes whatever corners they name."""
    if centred:
        half = boxes[:, 2:] / 2
        return torch.cat([boxes[:, :2] - half, boxes[:, :2] + half], 1)
    return torch.cat(
        [torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )


def _kept(
    boxes: Float[Tensor, "boxes 4"], order: Int64[Tensor, "order"], limit: int, overlap: float
) -> list[int]:
    """Return the boxes, best first, that overlap no better one by more than `overlap`.

    Intersection over union.
    """
    area = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
    kept: list[int] = []
    while order.numel() and len(kept) < limit:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        low = torch.maximum(boxes[best, :2], boxes[rest, :2])
        high = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = (high - low).clamp(min=0).prod(1)
        union = area[best] + area[rest] - common
        order = rest[~(common > overlap * union)]
    return kept


@operator("NonMaxSuppression", since=10)
def non_max_suppression(node: Node) -> Kernel:
    """NonMaxSuppression-10: boxes [batch, n, 4], scores [batch, classes, n].

    Rows (batch, class, box).
    """
    centred = bool(node.get("center_point_box", 0))

    def run(
        boxes: Float[Tensor, "samples boxes 4"],
        scores: Float[Tensor, "samples classes boxes"],
        most: Real[Tensor, "..."] | None = None,
        overlap: Real[Tensor, "..."] | None = None,
        threshold: Real[Tensor, "..."] | None = None,
    ) -> Int64[Tensor, "rows 3"]:
        limit = 0 if most is None else int(most)
        share = 0.0 if overlap is None else float(overlap)
        rows: list[list[int]] = []
        for batch in range(scores.shape[0]):
            corners = _corners(boxes[batch], centred)
            for label in range(scores.shape[1]):
                score = scores[batch, label]
                order = torch.argsort(score, descending=True, stable=True)
                if threshold is not None:
                    order = order[score[order] > threshold.to(score.device).reshape(())]
                rows += [[batch, label, index] for index in _kept(corners, order, limit, share)]
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)

    return run
