"""Resize and Upsample.

Separable resampling, one axis at a time, all modes and coordinate transformations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, Real
from torch import Tensor

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.torch_tensors import numbers


@dataclass(frozen=True)
class Sampling:
    """Attributes of Resize that hold for all axes."""

    mode: str
    transformation: str
    nearest: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    extrapolation: float

    @staticmethod
    def of(node: Node) -> Sampling:
        """Read a Resize node; before opset 11 it is asymmetric and rounds down."""
        old = node.op == "Upsample" or node.version < 11
        return Sampling(
            mode={"bilinear": "linear", "trilinear": "linear"}.get(
                node.get("mode", "nearest"), node.get("mode", "nearest")
            ),
            transformation=(
                "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
            ),
            nearest="floor" if old else node.get("nearest_mode", "round_prefer_floor"),
            cubic=node.get("cubic_coeff_a", -0.75),
            exclude_outside=bool(node.get("exclude_outside", 0)),
            antialias=bool(node.get("antialias", 0)),
            extrapolation=float(node.get("extrapolation_value", 0.0)),
        )


@dataclass(frozen=True)
class Axis:
    """Resampling of one axis: lengths, scale, and the region of interest in fractions."""

    index: int
    before: int
    after: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def coordinates(axis: Axis, how: str) -> Float32[Tensor, "after"]:
    """Return where every output element lies in the input, in float32 as in onnxruntime."""
    x = torch.arange(axis.after, dtype=torch.float32)
    scale = torch.tensor(axis.scale, dtype=torch.float32)
    if how == "asymmetric":
        return x / scale
    if how == "align_corners":
        return (
            x * (axis.before - 1) / (axis.after - 1) if axis.after > 1 else torch.zeros(axis.after)
        )
    if how == "tf_half_pixel_for_nn":
        return (x + 0.5) / scale
    if how == "tf_crop_and_resize":
        if axis.after > 1:
            return axis.start * (axis.before - 1) + x * (axis.end - axis.start) * (
                axis.before - 1
            ) / (axis.after - 1)
        return torch.full((axis.after,), 0.5 * (axis.start + axis.end) * (axis.before - 1))
    if how == "pytorch_half_pixel" and axis.after == 1:
        return torch.zeros(1)
    centre = (x + 0.5) / scale - 0.5
    if how == "half_pixel_symmetric":
        adjustment = axis.after / (axis.scale * axis.before)
        return axis.before / 2 * (1 - adjustment) + centre
    return centre


def nearest_index(place: Float[Tensor, "after"], how: str, length: int) -> Int64[Tensor, "after"]:
    """Return the input element nearest to a coordinate."""
    rounded = {
        "round_prefer_floor": lambda: torch.ceil(place - 0.5),
        "round_prefer_ceil": lambda: torch.floor(place + 0.5),
        "floor": lambda: torch.floor(place),
        "ceil": lambda: torch.ceil(place),
    }[how]()
    return rounded.long().clamp(0, length - 1)


def kernel_value(
    distance: Float64[Tensor, "after taps"], mode: str, a: float
) -> Float64[Tensor, "after taps"]:
    """Return the weight of an element at a distance.

    A tent, or Keys' cubic (1981) with parameter `a`.
    """
    distance = distance.abs()
    if mode == "linear":
        return (1 - distance).clamp(min=0)
    inner = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(
        distance <= 1, inner, torch.where(distance < 2, outer, torch.zeros_like(distance))
    )


def weights(axis: Axis, how: Sampling) -> Float64[Tensor, "after before"]:
    """Return the matrix [after, before] that resamples one axis."""
    place = coordinates(axis, how.transformation).double()
    if how.mode == "linear" and not how.antialias:
        place = place.clamp(0, axis.before - 1)
    narrow = min(axis.scale, 1.0) if how.antialias else 1.0
    reach = math.ceil((1 if how.mode == "linear" else 2) / narrow)
    offsets = torch.arange(-reach, reach + 2)
    taps = place.floor().long().unsqueeze(1) + offsets
    value = kernel_value((taps - place.unsqueeze(1)) * narrow, how.mode, how.cubic)
    outside = (taps < 0) | (taps >= axis.before)
    if how.exclude_outside:
        value = torch.where(outside, torch.zeros_like(value), value)
    if how.exclude_outside or how.antialias:
        value = value / value.sum(1, keepdim=True)
    matrix = torch.zeros(axis.after, axis.before, dtype=torch.float64)
    return matrix.scatter_add(1, taps.clamp(0, axis.before - 1), value)


def resample(x: Real[Tensor, "..."], axes: Sequence[Axis], how: Sampling) -> Real[Tensor, "..."]:
    """Resample along axes; places outside the region of a crop get the extrapolation value."""
    beyond: list[tuple[int, Bool[Tensor, "_after"]]] = []
    for axis in axes:
        if how.transformation == "tf_crop_and_resize":
            place = coordinates(axis, how.transformation)
            beyond.append((axis.index, (place < 0) | (place > axis.before - 1)))
        elif axis.before == axis.after and axis.scale == 1.0:
            continue
        if how.mode == "nearest":
            place = nearest_index(coordinates(axis, how.transformation), how.nearest, axis.before)
            x = x.index_select(axis.index, place.to(x.device))
        else:
            matrix = weights(axis, how).to(device=x.device, dtype=x.dtype)
            x = torch.matmul(x.movedim(axis.index, -1), matrix.t()).movedim(-1, axis.index)
    for index, mask in beyond:
        view = [1] * x.dim()
        view[index] = -1
        x = x.masked_fill(mask.to(x.device).reshape(view), how.extrapolation)
    return x


def resized_axes(
    shape: Sequence[int],
    chosen: Sequence[int],
    scales: list[float] | None,
    sizes: list[int] | None,
    policy: str,
    region: list[float] | None,
) -> list[Axis]:
    """Return how every chosen axis is resampled.

    Args:
        shape: Shape of the input.
        chosen: Axes that scales, sizes and region refer to.
        scales: Factors, or None.
        sizes: Lengths, where no factors are given.
        policy: keep_aspect_ratio_policy.
        region: Starts, then ends, of the region of a crop, in fractions.
    """
    starts = region[: len(chosen)] if region else [0.0] * len(chosen)
    ends = region[len(chosen) :] if region else [1.0] * len(chosen)
    if scales is not None:
        after = [
            math.floor(shape[axis] * scale * (end - start) if region else shape[axis] * scale)
            for axis, scale, start, end in zip(chosen, scales, starts, ends, strict=True)
        ]
    else:
        assert sizes is not None
        scales = [size / shape[axis] for axis, size in zip(chosen, sizes, strict=True)]
        after = list(sizes)
        if policy in ("not_larger", "not_smaller"):
            common = min(scales) if policy == "not_larger" else max(scales)
            scales = [common] * len(chosen)
            after = [math.floor(common * shape[axis] + 0.5) for axis in chosen]
    return [
        Axis(axis, shape[axis], length, scale, start, end)
        for axis, length, scale, start, end in zip(chosen, after, scales, starts, ends, strict=True)
    ]


@operator("Resize", since=11)
def resize(node: Node) -> Kernel:
    """Resize-11 and on: inputs X, roi, scales, sizes."""
    how, policy = Sampling.of(node), node.get("keep_aspect_ratio_policy", "stretch")
    stated = node.get("axes")

    def run(
        x: Real[Tensor, "..."],
        roi: Float[Tensor, "_axes"] | None = None,
        scales: Float[Tensor, "_axes"] | None = None,
        sizes: Int[Tensor, "_axes"] | None = None,
    ) -> Real[Tensor, "..."]:
        chosen = [axis % x.dim() for axis in stated] if stated else list(range(x.dim()))
        factors = (
            [float(value) for value in scales.tolist()]
            if scales is not None and scales.numel()
            else None
        )
        lengths = numbers(sizes) if sizes is not None and sizes.numel() else None
        crop = how.transformation == "tf_crop_and_resize" and roi is not None and roi.numel() > 0
        region = [float(value) for value in roi.tolist()] if crop and roi is not None else None
        axes = resized_axes(x.shape, chosen, factors, lengths, policy, region)
        if x.is_floating_point() or how.mode == "nearest":
            return resample(x, axes, how)
        return resample(x.to(torch.float32), axes, how).round().to(x.dtype)

    return run


@operator("Resize", since=10, until=10)
@operator("Upsample", since=9)
def resize_10(node: Node) -> Kernel:
    """Resize-10 and Upsample-9: scales as an input."""
    how = Sampling.of(node)

    def run(x: Real[Tensor, "..."], scales: Float[Tensor, "_axes"]) -> Real[Tensor, "..."]:
        factors = [float(value) for value in scales.tolist()]
        return resample(
            x, resized_axes(x.shape, range(x.dim()), factors, None, "stretch", None), how
        )

    return run


@operator("Upsample", until=8)
def upsample_7(node: Node) -> Kernel:
    """Upsample-7: scales by attribute."""
    how, factors = Sampling.of(node), list(node.get("scales"))
    return lambda x: resample(
        x, resized_axes(x.shape, range(x.dim()), factors, None, "stretch", None), how
    )
