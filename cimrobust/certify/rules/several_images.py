"""Operators on images where a sample has several, as frames of a film or crops of a picture.

The images of all samples are taken as samples of their own. A form on those of one sample is the
sum of forms on each, so it is at least the sum of their lower bounds: a weight may be another one
for each image there, which is sound and looser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from cimrobust.certify.interval import Interval
from cimrobust.certify.rules.rule import Pulled, Rule, Value
from cimrobust.twin.ops.converter_registry import Kernel


@dataclass(frozen=True)
class OverImages:
    """A kernel on images, run on all images of all samples.

    Attributes:
        kernel: Takes images along its first axis.
    """

    kernel: Kernel

    def __call__(self, images: Shaped[Tensor, "samples images ..."], *rest: Any) -> Any:
        """Return what the kernel makes of every image."""
        return _apart(self.kernel(images.flatten(0, 1), *rest), images.shape[:2])


@dataclass(frozen=True)
class OfImages:
    """A rule of images, for several a sample.

    Attributes:
        rule: Of one image a sample.
    """

    rule: Rule

    def forward(self, inputs: Sequence[Value]) -> Interval:
        """As in `Rule`."""
        apart = self._apart(inputs)
        made = self.rule.forward([apart, *inputs[1:]])
        data = inputs[0]
        assert isinstance(data, Interval)
        shape = data.lo.shape[:2]
        rounding = None if made.rounding is None else _apart(made.rounding, shape)
        return Interval(_apart(made.lo, shape), _apart(made.hi, shape), rounding)

    def backward(
        self,
        form: Float64[Tensor, "forms samples images *units"],
        inputs: Sequence[Value],
        output: Interval,
    ) -> Pulled:
        """As in `Rule`."""
        shape = form.shape[1:3]
        whole = output.moved(lambda end: end.flatten(0, 1))
        pulled = self.rule.backward(form.flatten(1, 2), [self._apart(inputs), *inputs[1:]], whole)
        coefs = tuple(
            None if part is None else part.reshape(len(form), *shape, *part.shape[2:])
            for part in pulled.coefs
        )
        return Pulled(coefs, pulled.constant.reshape(len(form), *shape).sum(-1))

    def _apart(self, inputs: Sequence[Value]) -> Interval:
        """Return the images as samples, once for an interval: rules keep what they work out."""
        data = inputs[0]
        assert isinstance(data, Interval)
        if self not in data.kept:
            data.kept[self] = data.moved(lambda end: end.flatten(0, 1))
        apart: Interval = data.kept[self]
        return apart


def _apart(
    together: Shaped[Tensor, "all_images *units"], shape: torch.Size
) -> Shaped[Tensor, "samples images *units"]:
    return together.reshape(*shape, *together.shape[1:])
