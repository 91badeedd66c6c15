"""The stages of an analysis, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.pipeline import stages
from cimrobust.pipeline.writing import Findings

if TYPE_CHECKING:
    from cimrobust.pipeline.clock import Clock
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis


def run_stages(opened: OpenedAnalysis, clock: Clock) -> Findings:
    """Run the stages of an opened analysis in their order.

    What one finds, later ones start from or are checked against.
    """
    rare, likely = None, None
    rare_below, likely_below = opened.asked.settings.rare_below, opened.asked.most_probable_below
    with clock.stage("monte_carlo"):
        trials = stages.draw_chips(opened)
    if rare_below is not None:
        with clock.stage("rare_failures"):
            rare = stages.estimate_rare(opened, rare_below)
    with clock.stage("search"):
        found = stages.search_box(opened, trials)
    with clock.stage("diagnostics"):
        diagnosis = stages.explain(opened, found)
    if likely_below is not None:
        with clock.stage("most_probable"):
            likely = stages.search_most_probable(opened, diagnosis.found, likely_below)
    with clock.stage("certify"):
        certification = stages.certify(opened, trials, diagnosis)
    with clock.stage("effects"):
        effects = stages.tabulate_effects(opened)
    return Findings(trials, diagnosis, certification, effects, rare, likely)
