"""Which trainings one re-training makes, by the role that each plays in its record."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.training.training_protocol import Method

METHOD, CONTROL = "method", "control"
#: Further trainings: plain fine-tuning on clipped weights, and the method without its bound.
CLIP, ATTACK = "clip", "attack"


def without_bound(method: Method) -> Method:
    """Return a method without the interval bound in its loss."""
    return replace(method, bound_share=0.0, knobs={**method.knobs, "bound": 0.0})
