"""Convolutions in one to three dimensions, with groups.

A convolution is a product with the columns of its windows; the formulas are those of
`certify.rules.product`, derived there. One kernel element is one device for all positions, so it
has one worst deviation, not one a position (`shared_form`). Where positions are bounded apart, the
minimum is over more chips than there are: lower, and sound.

References:
    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285,
    section 4 (a convolution backwards is a transposed one, and what strides leave over).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from cimrobust.certify.interval import Interval, chord_of_absolute
from cimrobust.certify.rounding import product_radius
from cimrobust.certify.rules.product import (
    as_interval,
    product_ends,
    product_interval,
    shared_form,
    shared_point,
)
from cimrobust.certify.rules.rule import Pulled, Value, total
from cimrobust.certify.rules.window_columns import Columns
from cimrobust.twin.ops.converter_registry import Kernel, Node
from cimrobust.twin.ops.sliding_window import TRANSPOSED, Window, pad


@dataclass(frozen=True)
class Convolution:
    """Conv. In two dimensions or fewer a kernel element is one device for all positions.

    In three, positions are bounded apart, which is sound and looser.

    Attributes:
        kernel: Computes the operator.
        window: Strides, dilations and padding.
        groups: Groups of channels.
    """

    kernel: Kernel
    window: Window
    groups: int

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        data, weight, bias = _parts(inputs)
        lo, hi, strength = product_interval(self.kernel, data, weight)
        if bias is not None:
            shape = (-1, *(1,) * (lo.dim() - 2))
            lo, hi = lo + bias.lo.reshape(shape), hi + bias.hi.reshape(shape)
            strength = strength + bias.magnitude.reshape(shape)
        return Interval.rounded(lo, hi, product_radius(strength, weight.lo[0].numel() + 1))

    def ends(self, inputs: Sequence[Value]) -> Interval:
        """Return `forward` without rounding: for a loss, in less time."""
        data, weight, bias = _parts(inputs)
        lo, hi = product_ends(self.kernel, data, weight)
        if bias is None:
            return Interval(lo, hi)
        shape = (-1, *(1,) * (lo.dim() - 2))
        return Interval(lo + bias.lo.reshape(shape), hi + bias.hi.reshape(shape))

    def backward(
        self,
        form: Float64[Tensor, "forms samples *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        data, weight, bias = _parts(inputs)
        constant = torch.zeros(form.shape[:2], dtype=form.dtype)
        if bias is not None:
            sums = form.flatten(3).sum(-1)
            size = form.abs().flatten(3).sum(-1)
            constant = (sums * bias.middle).sum(-1) - (size * bias.radius).sum(-1)
        found = self._cropped(form, data, weight)
        return Pulled((found[0], None, None)[: len(inputs)], constant + found[1])

    def _cropped(
        self, form: Float64[Tensor, "forms samples *units"], data: Interval, weight: Interval
    ) -> tuple[Float64[Tensor, "forms samples *plane"] | None, Float64[Tensor, "forms samples"]]:
        """Pull a form back through the part of the plane that it rests on.

        Forms on single units rest on little of it.
        """
        taps, rank = weight.lo.shape[2:], weight.lo.dim() - 2
        support = (form != 0).flatten(0, 2)
        spans = [_span(support.movedim(axis + 1, 0).flatten(1).any(1)) for axis in range(rank)]
        if all(
            2 * (stop - start) > size
            for (start, stop), size in zip(spans, form.shape[3:], strict=True)
        ):
            return self._pulled(form, data, weight)
        begins, ends = self.window.padding(data.lo.shape[2:], taps)
        steps, gaps = self.window.steps(rank), self.window.gaps(rank)
        reach = [
            (start * step, (stop - 1) * step + (tap - 1) * gap + 1)
            for (start, stop), step, tap, gap in zip(spans, steps, taps, gaps, strict=True)
        ]
        part = data.moved(lambda end: _cut(pad(end, begins, ends), reach))
        window = Window(steps, gaps, None, "NOTSET")
        pulled, constant = Convolution(self.kernel, window, self.groups)._pulled(
            _cut(form, spans), part, weight
        )
        if pulled is None:
            return None, constant
        before = [start - begin for (start, _), begin in zip(reach, begins, strict=True)]
        after = [
            size + begin - stop
            for (_, stop), size, begin in zip(reach, data.lo.shape[2:], begins, strict=True)
        ]
        return pad(pulled, before, after), constant

    def _pulled(
        self, form: Float64[Tensor, "forms samples *units"], data: Interval, weight: Interval
    ) -> tuple[Float64[Tensor, "forms samples *plane"] | None, Float64[Tensor, "forms samples"]]:
        if (
            weight.is_point
            or weight.lo.dim() > 4
            or (not data.is_point and _use_no_weight_twice(form))
        ):
            return self._apart(form, data, weight)
        return self._shared(form, data, weight)

    def _shared(
        self, form: Float64[Tensor, "forms samples *units"], data: Interval, weight: Interval
    ) -> tuple[Float64[Tensor, "forms samples *plane"] | None, Float64[Tensor, "forms samples"]]:
        """Pull a form back with one device for all positions of a kernel element.

        Nothing is left to pull through exact activations.
        """
        cut = Columns.of(self.window, data.lo.shape[2:], weight.lo.shape[2:])
        shape = (data.lo.shape[0], self.groups, -1, cut.num_positions)
        forms = form.reshape(*form.shape[:2], self.groups, -1, cut.num_positions)
        matrix = weight.moved(lambda end: end.reshape(self.groups, -1, end[0].numel()))
        if self.groups == 1:
            forms, matrix = _one_channel(forms, matrix)
        if data.is_point:
            return None, shared_point(forms, cut.unfold(data.lo).reshape(shape), matrix)
        columns = data.moved(lambda end: cut.unfold(end).reshape(shape))
        pulled, constant = shared_form(forms, columns, matrix)
        return cut.fold(pulled.flatten(0, 1)).reshape(form.shape[0], *data.lo.shape), constant

    def _apart(
        self, form: Float64[Tensor, "forms samples *units"], data: Interval, weight: Interval
    ) -> tuple[Float64[Tensor, "forms samples *plane"] | None, Float64[Tensor, "forms samples"]]:
        pulled = self._transposed(form, weight.middle, data.lo)
        constant = torch.zeros(form.shape[:2], dtype=form.dtype)
        if not weight.is_point:
            reach = self._transposed(form.abs(), weight.radius, data.lo)
            slope, intercept = chord_of_absolute(data.middle, data.radius)
            pulled = pulled - reach * slope
            constant = -total(reach, intercept)
        return pulled, constant

    def _transposed(
        self,
        form: Float64[Tensor, "forms samples *units"],
        weight: Float64[Tensor, "channels inputs *taps"],
        like: Float64[Tensor, "samples *plane"],
    ) -> Float64[Tensor, "forms samples *plane"]:
        """Return what the transposed convolution makes of forms."""
        rank = weight.dim() - 2
        begins, ends = self.window.padding(like.shape[2:], weight.shape[2:])
        steps, gaps = self.window.steps(rank), self.window.gaps(rank)
        run: Callable[..., Any] = TRANSPOSED[rank]
        full = run(form.flatten(0, 1), weight, None, steps, 0, 0, self.groups, gaps)
        # What the strides left over at the end has no influence: the padded input is longer than
        # the full transpose.
        short = [
            size + begin + end - made
            for size, begin, end, made in zip(
                like.shape[2:], begins, ends, full.shape[2:], strict=True
            )
        ]
        cropped = pad(
            full,
            [-begin for begin in begins],
            [more - end for more, end in zip(short, ends, strict=True)],
        )
        return cropped.reshape(*form.shape[:2], *like.shape[1:])


def _cut(plane: Float64[Tensor, "..."], spans: Sequence[tuple[int, int]]) -> Float64[Tensor, "..."]:
    """Return a part of the last axes."""
    for axis, (start, stop) in enumerate(reversed(spans), start=1):
        plane = plane.narrow(-axis, start, stop - start)
    return plane


def _span(used: Bool[Tensor, "places"]) -> tuple[int, int]:
    """Return the first used place and the one behind the last.

    Where none is used, the first place counts as used.
    """
    places = used.nonzero()
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 1)


def _use_no_weight_twice(form: Float64[Tensor, "forms samples channels *positions"]) -> bool:
    """Return whether every form rests on at most one position of a channel.

    Then positions are apart anyway, and cheaper.
    """
    return bool(((form != 0).flatten(3).sum(-1) <= 1).all())


def _one_channel(
    forms: Float64[Tensor, "forms samples 1 channels positions"], matrix: Interval
) -> tuple[Float64[Tensor, "forms samples 1 left positions"], Interval]:
    """Return forms and the weights that they rest on, reduced to one channel if possible.

    If no form rests on more than one channel, all channels that it does not rest on are left out.

    Args:
        forms: [forms, samples, 1, channels, positions].
        matrix: [1, channels, rows].

    Returns:
        [forms, samples, 1, 1, positions] and [forms, samples, 1, 1, rows], or the arguments.
    """
    used = (forms != 0).any(-1)
    if forms.shape[3] == 1 or bool((used.sum(-1) > 1).any()):
        return forms, matrix
    channel = used.to(torch.uint8).argmax(-1, keepdim=True)
    only = forms.gather(3, channel[..., None].expand(*channel.shape, forms.shape[-1]))
    return only, matrix.moved(lambda end: end[0][channel])


def _parts(inputs: Sequence[Value]) -> tuple[Interval, Interval, Interval | None]:
    bias = as_interval(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
    return as_interval(inputs[0]), as_interval(inputs[1]), bias


def conv(node: Node, kernel: Kernel) -> Convolution:
    """Conv."""
    return Convolution(kernel, Window.of(node), int(node.get("group", 1)))
