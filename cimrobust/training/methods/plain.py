"""Fine-tuning without any deviation, and the same with clipped weights: the two controls.

What a method gains over ``plain`` may be clipping alone, which shrinks the tolerance box of every
weight without knowing of devices. What it gains over ``clip`` is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cimrobust.training.training_protocol import RANGE, Method, Recipe, Step

_WHAT = "fine-tuning without deviations, the control"
_CLIP = "fine-tuning without deviations on clipped weights, the second control"


def _make(values: Mapping[str, float]) -> Method:
    return Method("plain", _WHAT, Step.loss, values)


def _make_clip(values: Mapping[str, float]) -> Method:
    return Method("clip", _CLIP, Step.loss, values)


PLAIN = Recipe("plain", _WHAT, {}, _make)
CLIP = Recipe("clip", _CLIP, {"range": replace(RANGE, default=2.0)}, _make_clip)
