"""Stages that need no search: with the worst chip at hand, a reviewer runs them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cimrobust.available_memory import is_about_memory
from cimrobust.certify.bound_summary import Certification, certify_run
from cimrobust.certify.refusal import Refusal
from cimrobust.errors import MemoryShortError
from cimrobust.montecarlo.effect_costs import EffectTable, add_effects
from cimrobust.montecarlo.montecarlo_records import EFFECT_CHIPS

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis


def bound(
    opened: OpenedAnalysis, worst_output: Shaped[np.ndarray, "samples *outputs"]
) -> Certification:
    """Return the certified bound, or why there is none: it may have been left out on request.

    Args:
        opened: The analysis.
        worst_output: Decision output of the worst chip; samples that it breaks are not tried.
    """
    left_out = opened.asked.left_out("certify")
    if left_out:
        return Certification(None, None, Refusal(left_out), {})
    with opened.executor() as executor:
        return certify_run(
            opened.subject,
            opened.run,
            worst_output=worst_output,
            parts=opened.parts,
            executor=executor,
        )


def tabulate_effects(opened: OpenedAnalysis) -> EffectTable:
    """Score chips with every effect added in turn, unless that is left out or needs more memory."""
    left_out = opened.asked.left_out("effects")
    if left_out:
        return EffectTable((), left_out)
    try:
        with opened.executor() as executor:
            return EffectTable(
                add_effects(
                    opened.subject,
                    opened.run,
                    num_chips=min(EFFECT_CHIPS[opened.run.effort], opened.asked.num_trials),
                    parts=opened.parts,
                    executor=executor,
                )
            )
    except (MemoryError, MemoryShortError, RuntimeError) as err:
        if not is_about_memory(err):
            raise
        return EffectTable((), f"it needs more memory than there is: {err}")
