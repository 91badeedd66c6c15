"""Weights on devices in torch.

What a layer is quantised to and how far its devices may carry it, as functions of the weights being
trained.

The numbers are those of `mapping.place`, up to float32 rounding: levels ``round(|W| / s)`` of the
scale ``s = max|W| / (2^M - 1)`` (design, section 3), or the integers
of a file; and the tolerance box, which is a table over the levels of a weight times the scale.
Rounding passes gradients straight through. The scale is the current one
at every step and is differentiable: a gradient that would shrink the box by shrinking the largest
weight of a tensor reaches that weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from cimrobust.mapping.coding import max_level
from cimrobust.mapping.place import layer_drift_factor, scale_groups
from cimrobust.mapping.tolerance_limits import box_table
from cimrobust.twin.ops.surrogate import surrogate

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.layers import CrossbarLayer

_SMALLEST_SCALE = 1e-30


@dataclass(frozen=True)
class Chip:
    """One layer on its devices.

    Attributes:
        nominal: Quantised weights, with a straight-through gradient.
        lo: Smallest deviations, differentiable in the scale, in a shape that broadcasts.
        hi: Largest deviations, likewise.
        reach: Largest magnitude in the scale group of every weight, in a shape that broadcasts.
        is_centred: The nominal weight is the middle of every interval.
    """

    nominal: Float[Tensor, "*weight"]
    lo: Float[Tensor, "..."]
    hi: Float[Tensor, "..."]
    reach: Float[Tensor, "..."]
    is_centred: bool = False

    @property
    def half(self) -> Float[Tensor, "..."]:
        """Half widths of the intervals."""
        return self.hi if self.is_centred else 0.5 * (self.hi - self.lo)

    def deviation(
        self, unit: Float[Tensor, "*weight"], size: float = 1.0
    ) -> Float[Tensor, "*weight"]:
        """Return the deviation of a point of the box stretched to [-1, 1] in every weight.

        Args:
            unit: The point.
            size: Size of the box as a share of the whole.
        """
        # The ends first: they are one number where all intervals are the same.
        away = (size * self.half) * unit
        return away if self.is_centred else (0.5 * size) * (self.lo + self.hi) + away

    def project(self, deviation: Float[Tensor, "*weight"]) -> Float[Tensor, "*weight"]:
        """Return the nearest deviation inside the box."""
        return torch.minimum(torch.maximum(deviation, self.lo), self.hi)


@dataclass(frozen=True)
class Grid:
    """The integers that a file stores a tensor as.

    Attributes:
        scale: Weight of one integer step, float32, own shape.
        low: Smallest integer less the zero point, own shape.
        high: Largest integer less the zero point.
        zero_point: Zero points, int64 array of the own shape.
    """

    scale: Float32[Tensor, "*weight"]
    low: Float32[Tensor, "*weight"]
    high: Float32[Tensor, "*weight"]
    zero_point: Int64[np.ndarray, "*weight"]

    def levels(self, weight: Float[Tensor, "*weight"]) -> Float[Tensor, "*weight"]:
        """Return the integers less the zero point that stand for weights."""
        return torch.minimum(
            torch.maximum((weight.detach() / self.scale).round(), self.low), self.high
        )

    def nearest(self, weight: Float[Tensor, "*weight"]) -> Float[Tensor, "*weight"]:
        """Return the weights that the nearest integers stand for.

        The gradient is straight-through inside their range.
        """
        inside = torch.minimum(torch.maximum(weight, self.low * self.scale), self.high * self.scale)
        return surrogate(self.levels(weight) * self.scale, inside)


class LayerDevices:
    """How one layer is programmed.

    Attributes:
        name: Its initializer.
        grid: The integers of its file; None for float weights.
    """

    def __init__(self, layer: CrossbarLayer, profile: DeviceProfile, grid: Grid | None) -> None:
        self.name = layer.initializer
        self.grid = grid
        self._profile = profile
        self._top = max_level(profile)
        group, self._num_groups = scale_groups(layer, profile)
        self._group = (
            None if group is None else torch.from_numpy(group.reshape(-1).astype(np.int64))
        )
        self._compensated = (
            profile.drift is not None and profile.drift.compensation != "none" and profile.has_drift
        )
        self._table = tuple(torch.from_numpy(end) for end in box_table(profile))
        # Symmetric intervals that no level changes are the same for every weight: no look-up.
        self._is_flat = not self._compensated and all(
            bool((end == end[0]).all()) for end in self._table
        )
        if self._is_flat:
            self._table = tuple(end[0] for end in self._table)
        self._is_centred = self._is_flat and bool(self._table[0] == -self._table[1])

    def to(self, device: torch.device) -> None:
        """Move what is needed in every step."""
        self._table = tuple(end.to(device) for end in self._table)
        self._group = None if self._group is None else self._group.to(device)
        if self.grid is not None:
            self.grid = Grid(
                self.grid.scale.to(device),
                self.grid.low.to(device),
                self.grid.high.to(device),
                self.grid.zero_point,
            )

    def program(self, weight: Float[Tensor, "*weight"]) -> Chip:
        """Return the quantised weights and their box.

        Args:
            weight: Weights being trained, float32, own shape.
        """
        held = weight if self.grid is None else self.grid.nearest(weight)
        reach = self._reach(held)
        scale = (reach / self._top).clamp(min=_SMALLEST_SCALE)
        with torch.no_grad():
            level = (held / scale).round()
        # The value is a multiple of a constant scale; the gradient passes to the weight. Integer
        # weights are levels already.
        nominal = held if self.grid is not None else surrogate(level * scale.detach(), held)
        low, high = self._ends(nominal, scale)
        if not self._is_flat:
            index = level.long() + self._top
            low, high = low[index], high[index]
        # One number where all intervals are the same: arithmetic on copies costs as much as the
        # products of a small network.
        return Chip(nominal, scale * low, scale * high, reach, self._is_centred)

    def _reach(self, weight: Float[Tensor, "*weight"]) -> Float[Tensor, "..."]:
        if self._group is None:
            return largest_magnitude(weight)
        magnitude = weight.abs()
        maxima = torch.zeros(self._num_groups, dtype=weight.dtype, device=weight.device)
        maxima = maxima.scatter_reduce(0, self._group, magnitude.reshape(-1), "amax")
        return maxima[self._group].reshape(weight.shape)

    def _ends(
        self, nominal: Float[Tensor, "*weight"], scale: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], ...]:
        """Return the box of every level, in levels.

        Drift compensation depends on how many devices hold each level.
        """
        if not self._compensated:
            return self._table
        # The weight of one level, once a group: any member tells it.
        values = np.ascontiguousarray(nominal.detach().cpu().numpy(), dtype=np.float32)
        spread = scale.detach().cpu().numpy().astype(np.float64)
        group = None
        if self._group is not None:
            group = self._group.cpu().numpy().astype(np.int32).reshape(values.shape)
        scales = np.zeros(self._num_groups)
        scales[... if group is None else group] = spread
        factor = layer_drift_factor(values, group, scales, self._profile)
        return tuple(
            torch.from_numpy(end).to(nominal.device)
            for end in box_table(self._profile, compensation=factor)
        )


def grid_of(layer: CrossbarLayer, raw: Shaped[np.ndarray, "..."]) -> Grid | None:
    """Return the integers of a layer; None for float weights.

    Args:
        layer: The layer.
        raw: What its initializer holds in the file.
    """
    if layer.levels is None:
        return None
    group = (
        np.zeros(layer.levels.size, np.int64)
        if layer.scale_group is None
        else layer.scale_group.reshape(-1).astype(np.int64)
    )
    levels, values = (
        np.abs(layer.levels.reshape(-1)),
        np.abs(layer.values.reshape(-1).astype(np.float64)),
    )
    # The largest level of a group tells its scale best; a group without any weight keeps them all
    # at zero.
    order = np.argsort(levels, kind="stable")
    scale = np.zeros(int(group.max(initial=0)) + 1)
    scale[group[order]] = np.divide(
        values[order], levels[order], out=np.zeros(len(order)), where=levels[order] > 0
    )
    zero_point = raw.astype(np.int64) - layer.levels
    low, high = _range_of(raw.dtype)
    step = scale[group].reshape(layer.shape)
    least, most = (
        torch.from_numpy((limit - zero_point).astype(np.float32)) for limit in (low, high)
    )
    return Grid(
        torch.from_numpy(np.maximum(step, _SMALLEST_SCALE).astype(np.float32)),
        least,
        most,
        zero_point,
    )


def _range_of(kind: np.dtype) -> tuple[int, int]:
    """Return the smallest and largest integer of a type, those of 4 bit included."""
    if kind.name in ("int4", "uint4"):
        return (-8, 7) if kind.name == "int4" else (0, 15)
    info = np.iinfo(kind)
    return int(info.min), int(info.max)


class _LargestMagnitude(torch.autograd.Function):
    """The largest magnitude of a tensor, with a gradient that costs few passes.

    The gradients of `amax` and `amin` compare every element and make truth values of that, which
    takes thirty times as long as the maximum itself; numbers that are 0 or 1 take a sixth of it.
    """

    @staticmethod
    def forward(weight: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        return _largest(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> Float[Tensor, "..."]:
        weight, largest = ctx.saved_tensors
        above = torch.eq(weight, largest, out=torch.empty_like(weight))
        below = torch.eq(weight, -largest, out=torch.empty_like(weight))
        num_above, num_below = above.sum(), below.sum()
        share = grad / (num_above.sign() + num_below.sign())
        above.mul_(share / num_above.clamp(min=1))
        return above.addcmul_(below, -share / num_below.clamp(min=1))


def largest_magnitude(weight: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Return the largest magnitude of a tensor.

    Its gradient is that of ``maximum(amax, -amin)``: shared evenly by the signs that reach it, as
    both do where weights are clipped, and by the elements of a sign.

    Args:
        weight: Any tensor with at least one element.
    """
    if torch.is_grad_enabled() and weight.requires_grad:
        return _LargestMagnitude.apply(weight)  # type: ignore[no-any-return,no-untyped-call]
    return _largest(weight)


def _largest(weight: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    return torch.maximum(weight.amax(), -weight.amin())
