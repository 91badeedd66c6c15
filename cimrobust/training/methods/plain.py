"""Fine-tuning without any deviation: the control that every other method is compared with."""

from __future__ import annotations

from collections.abc import Mapping

from cimrobust.training.training_protocol import Method, Recipe, Step

_WHAT = "fine-tuning without deviations, the control"


def _make(values: Mapping[str, float]) -> Method:
    return Method("plain", _WHAT, Step.loss, values)


PLAIN = Recipe("plain", _WHAT, {}, _make)
