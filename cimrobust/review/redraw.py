"""Drawn chips, drawn again.

A few trials, chosen by the reviewer, from the seed that the table states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.montecarlo.trials import ScoreTrials
from cimrobust.review.machine_check import is_same_machine
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.data.decision import Score
    from cimrobust.montecarlo.trial_table import TrialTable
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis

# Decisions on the edge that another processor may take the other way.
_EDGE_DECISIONS = 2
_RTOL = 1e-6
_NAMED = 5


def redraw_check(
    certificate: CertificateModel,
    table: TrialTable,
    opened: OpenedAnalysis,
    *,
    count: int,
    seed: int,
) -> ReplayCheck:
    """Draw trials again and compare them with the table.

    If a share q of the table is invented, `count` trials miss it with probability (1 - q) to the
    power of `count`. The worst trial is always among them, because it is where the table is most
    likely to have been touched.

    Args:
        certificate: The certificate.
        table: Its trials.
        opened: The analysis, opened again.
        count: Trials to draw; 0: none.
        seed: Chooses them; the reviewer's, so that nobody knows beforehand which.
    """
    if count == 0:
        return ReplayCheck("redrawn_trials", None, "no trial was drawn again (--redraw 0)")
    chosen = _chosen(table, count, seed)
    exact = is_same_machine(certificate)
    wrong = [
        trial
        for trial, score in zip(chosen, _drawn_again(table, chosen, opened), strict=True)
        if not _is_same(table, trial, score, exact=exact)
    ]
    missed = (
        "if a tenth of the table were invented, this would miss it with probability"
        f" {0.9 ** len(chosen):.2g}"
    )
    if wrong:
        named = ", ".join(map(str, wrong[:_NAMED]))
        return ReplayCheck(
            "redrawn_trials",
            False,
            f"{len(wrong)} of {len(chosen)} trials score something else, drawn again: {named} (seed"
            f" {seed})",
        )
    return ReplayCheck(
        "redrawn_trials",
        True,
        f"{len(chosen)} of {table.num_trials} trials, chosen by seed {seed}, score the same drawn"
        f" again; {missed}",
    )


def _drawn_again(
    table: TrialTable, chosen: Sequence[int], opened: OpenedAnalysis
) -> Iterator[Score]:
    """Yield the scores of trials: one after the other with all threads, or from a cluster."""
    progress, runtime = opened.run.progress, opened.runtime
    progress.start("Drawing trials again", len(chosen))
    with opened.executor() as executor:
        scores = (
            (
                runtime.score(
                    runtime.engine.draw(opened.placement, seed=table.seed, trial=trial),
                    threads=opened.run.workers,
                )
                for trial in chosen
            )
            if executor is None
            else executor.map_ordered(ScoreTrials(table.seed), chosen)
        )
        for score in scores:
            progress.advance()
            yield score


def _chosen(table: TrialTable, count: int, seed: int) -> list[int]:
    generator = np.random.default_rng(seed)
    drawn = generator.choice(table.num_trials, size=min(count, table.num_trials), replace=False)
    return sorted({table.worst_trial, *(int(trial) for trial in drawn)})


def _is_same(table: TrialTable, trial: int, score: Score, *, exact: bool) -> bool:
    """Tell whether a trial scores what the table says.

    Where the machine is another one, but for decisions on the edge.
    """
    claimed = float(table.value[trial])
    if table.count is not None and score.count is not None:
        return abs(score.count - int(table.count[trial])) <= (0 if exact else _EDGE_DECISIONS)
    return bool(np.isclose(score.value, claimed, rtol=_RTOL, atol=0, equal_nan=True))
