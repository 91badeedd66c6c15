"""What a sweep says of network, data, devices and limits, as far as its own numbers tell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate.assemble_sweep import NOT_COVERED
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.load_profile import profile_of
from cimrobust.review.consistency import wrong_share_mapped, wrong_timings
from cimrobust.review.differences import named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.stated_item import wrong_decision, wrong_digests

if TYPE_CHECKING:
    from cimrobust.certificate.models.swept import SweepModel


def head_check(sweep: SweepModel) -> ReplayCheck:
    """Check that the head of a sweep is one that a run writes.

    Args:
        sweep: The sweep.
    """
    wrong = [
        *wrong_digests(sweep.model, sweep.data),
        *wrong_share_mapped(sweep.model),
        *wrong_timings(sweep.timings),
        *_wrong_scores(sweep),
        *_wrong_device(sweep),
    ]
    if sweep.data.decision.output not in {one.name for one in sweep.model.outputs}:
        wrong.append("data.decision.output")
    if is_of_today(sweep, sweep.tool):
        wrong += [
            *wrong_decision(sweep.model, sweep.data, sweep.clean.samples),
            *_wrong_limits(sweep),
        ]
    return ReplayCheck(
        "head",
        not wrong,
        "network, data, devices and limits are those of a run"
        if not wrong
        else f"missing, contradicted, or of no run: {named(wrong)}",
    )


def _wrong_scores(sweep: SweepModel) -> Iterator[str]:
    if sweep.metric.unit != "fraction":
        return
    clean = sweep.clean
    for name in ("score", "quantised_score"):
        counted = getattr(clean, name) * clean.samples
        if not math.isclose(counted, round(counted), abs_tol=1e-6):
            yield f"clean.{name}"


def _wrong_device(sweep: SweepModel) -> Iterator[str]:
    profile, stated = profile_of(sweep.device.profile, shown="sweep.json"), sweep.device
    # Layers with devices of their own are not listed in a sweep: their share is not told.
    if profile.rules:
        return
    derived = {
        "largest_tolerance_fraction": tolerance_fraction(profile),
        "excluded_probability": excluded_probability(profile),
    }
    for name, value in derived.items():
        if not math.isclose(getattr(stated, name), value, rel_tol=1e-9, abs_tol=1e-300):
            yield f"device.{name}"


def _wrong_limits(sweep: SweepModel) -> Iterator[str]:
    fixed, rules = len(NOT_COVERED), profile_of(sweep.device.profile, shown="sweep.json").rules
    if sweep.not_covered[:fixed] != list(NOT_COVERED) or (
        len(sweep.not_covered) > fixed and not rules
    ):
        yield "not_covered"
