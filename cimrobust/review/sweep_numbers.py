"""Numbers of a sweep against each other, without model or data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from cimrobust.certificate.assemble_sweep import sweep_command
from cimrobust.certificate.blocks.drawn_chips import CONFIDENCE, KPP_PERCENTAGES
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.load_profile import profile_of
from cimrobust.errors import InputRefusedError
from cimrobust.montecarlo.quantile import needed_trials
from cimrobust.review.differences import named
from cimrobust.review.named_arguments import named_arguments
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.replayed_settings import wrong_limit
from cimrobust.search.replay_tolerance import allowed_difference

if TYPE_CHECKING:
    from cimrobust.certificate.models.swept import SweepModel, SweptChips

# What follows the search at a tolerance, and is named with where it began.
_SHORT_ATTACK = "short attack "
# Mean of equal scores, in floating point.
_ROUNDING = 1e-12


def sweep_number_checks(sweep: SweepModel) -> Iterator[ReplayCheck]:
    """Check numbers of a sweep against each other.

    Args:
        sweep: The sweep.

    Raises:
        InputRefusedError: There are no points, or the profile is none.
    """
    if not sweep.points:
        raise InputRefusedError(
            "sweep must have at least one tolerance, got none (sweep.json, points); do not trust it"
        )
    yield _check(
        "curve",
        list(_wrong_curve(sweep)),
        "tolerances rise, scores never improve, and no proof is contradicted by a chip",
    )
    yield _check(
        "shares", list(_wrong_shares(sweep)), "every score is correct decisions over samples"
    )
    yield _check(
        "chips",
        list(_wrong_chips(sweep)),
        "percentiles, mean and extremes of drawn chips go together",
    )
    yield _check(
        "settings",
        list(_wrong_settings(sweep)),
        "tolerances, trials, effort, samples and command are those of the settings",
    )
    profile = profile_of(sweep.device.profile, shown="sweep.json")
    same = math.isclose(sweep.device.tolerance_fraction, tolerance_fraction(profile), rel_tol=1e-12)
    yield _check(
        "device_numbers",
        [] if same else ["device.tolerance_fraction"],
        "the tolerance is that of the profile",
    )


def _check(name: str, wrong: list[str], fine: str) -> ReplayCheck:
    return ReplayCheck(name, not wrong, fine if not wrong else f"contradicted at {named(wrong)}")


def _wrong_curve(sweep: SweepModel) -> Iterator[str]:
    def is_better(one: float, other: float) -> bool:
        return one > other if sweep.metric.higher_is_better else one < other

    for index, (smaller, larger) in enumerate(pairwise(sweep.points), start=1):
        if not smaller.tolerance < larger.tolerance:
            yield f"points.{index}.tolerance"
        if is_better(larger.worst_found.score, smaller.worst_found.score):
            yield f"points.{index}.worst_found.score"
        proven = smaller.certified.score, larger.certified.score
        if proven[0] is not None and proven[1] is not None and is_better(proven[1], proven[0]):
            yield f"points.{index}.certified.score"
    for index, point in enumerate(sweep.points):
        worst, drawn, proof = point.worst_found, point.monte_carlo, point.certified
        # Members are scored by the engine; the file of the witness may round its sums otherwise.
        rounding = allowed_difference(
            worst.score, num_samples=sweep.clean.samples, is_share=worst.correct is not None
        )
        if any(
            is_better(worst.score, member.score) and not abs(member.score - worst.score) <= rounding
            for member in worst.members
        ):
            yield f"points.{index}.worst_found.members"
        if not _is_by_a_member(sweep, index):
            yield f"points.{index}.worst_found.member"
        known = (worst.score, drawn.min if sweep.metric.higher_is_better else drawn.max)
        if proof.score is not None and any(is_better(proof.score, score) for score in known):
            yield f"points.{index}.certified.score"
        if (proof.score is None) is (proof.reason is None):
            yield f"points.{index}.certified.reason"
        if proof.not_tried + (proof.correct or 0) > sweep.clean.samples:
            yield f"points.{index}.certified.not_tried"


def _is_by_a_member(sweep: SweepModel, index: int) -> bool:
    """Tell whether a worst chip was found by a member that is listed, once, or taken over."""
    worst = sweep.points[index].worst_found
    names = [member.name for member in worst.members]
    if len(set(names)) < len(names):
        return False
    if not names or worst.member in names:
        return True
    if worst.member.startswith(_SHORT_ATTACK):
        return _SHORT_ATTACK.strip().replace(" ", "_") in names
    below = sweep.points[index - 1] if index else None
    return below is not None and (worst.member, worst.score) == (
        f"the chip at {100 * below.tolerance:.4g} %",
        below.worst_found.score,
    )


def _wrong_shares(sweep: SweepModel) -> Iterator[str]:
    is_share, samples = sweep.metric.name == "accuracy", sweep.clean.samples
    ideal = not profile_of(sweep.device.profile, shown="sweep.json").needs_kernel
    if sweep.data.decision.metric != sweep.metric.name:
        yield "data.decision.metric"
    for index, point in enumerate(sweep.points):
        worst, place = point.worst_found, f"points.{index}.worst_found"
        if not _is_share(worst.score, worst.correct, samples, is_share=is_share):
            yield f"{place}.score"
        if ideal and worst.file_score != worst.score:
            yield f"{place}.file_score"
        for row, member in enumerate(worst.members):
            if not _is_share(member.score, member.correct, samples, is_share=is_share):
                yield f"{place}.members.{row}.score"
        proof = point.certified
        if proof.score is not None and not _is_share(
            proof.score, proof.correct, samples, is_share=is_share
        ):
            yield f"points.{index}.certified.score"


def _is_share(score: float, correct: int | None, samples: int, *, is_share: bool) -> bool:
    if correct is None:
        return not is_share
    return (
        is_share
        and 0 <= correct <= samples
        and math.isclose(score, correct / max(1, samples), rel_tol=_ROUNDING, abs_tol=1e-15)
    )


def _wrong_chips(sweep: SweepModel) -> Iterator[str]:
    samples = sweep.clean.samples if sweep.metric.unit == "fraction" else None
    is_today = is_of_today(sweep, sweep.tool)
    asked = [(float(k), CONFIDENCE) for k in KPP_PERCENTAGES]
    for index, point in enumerate(sweep.points):
        place, drawn = f"points.{index}.monte_carlo", point.monte_carlo
        for name in _wrong_statistics(drawn, higher=sweep.metric.higher_is_better):
            yield f"{place}.{name}"
        if samples is not None:
            yield from (f"{place}.{name}" for name in _uncounted(drawn, samples))
        if is_today and [(row.k, row.confidence) for row in drawn.kpp] != asked:
            yield f"{place}.kpp"


def _uncounted(drawn: SweptChips, samples: int) -> Iterator[str]:
    """Yield scores of chips that no whole number of decisions has."""
    scores = {"min": drawn.min, "max": drawn.max}
    for index, row in enumerate(drawn.kpp):
        scores[f"kpp.{index}.score"] = row.score
        if row.lower_bound is not None:
            scores[f"kpp.{index}.lower_bound"] = row.lower_bound
    for name, score in scores.items():
        if not _is_whole(score * samples):
            yield name
    if not _is_whole(drawn.mean * samples * drawn.trials):
        yield "mean"


def _is_whole(value: float) -> bool:
    return math.isclose(value, round(value), rel_tol=1e-9, abs_tol=1e-6)


def _wrong_statistics(drawn: SweptChips, *, higher: bool) -> Iterator[str]:
    slack = _ROUNDING * max(abs(drawn.min), abs(drawn.max))
    if not drawn.min - slack <= drawn.mean <= drawn.max + slack:
        yield "mean"
    # No sample leaves half of its range by more, n - 1 in the denominator.
    most = 0.5 * (drawn.max - drawn.min) * math.sqrt(drawn.trials / max(1, drawn.trials - 1))
    if not 0 <= drawn.std <= most + slack:
        yield "std"
    sign = 1 if higher else -1
    if any(
        later.k <= one.k or sign * later.score < sign * one.score
        for one, later in pairwise(drawn.kpp)
    ):
        yield "kpp"
    for index, row in enumerate(drawn.kpp):
        place = f"kpp.{index}"
        if not drawn.min <= row.score <= drawn.max or (
            row.lower_bound is not None and not drawn.min <= row.lower_bound <= drawn.max
        ):
            yield f"{place}.score"
        is_short = drawn.trials < row.needed_trials
        is_above = row.lower_bound is not None and (
            (row.lower_bound > row.score) if higher else (row.lower_bound < row.score)
        )
        if (
            row.needed_trials != needed_trials(row.k, row.confidence)
            or (row.lower_bound is None) is not is_short
            or is_above
        ):
            yield f"{place}.lower_bound"


def _wrong_settings(sweep: SweepModel) -> Iterator[str]:
    stated = {row.key: row.value for row in sweep.settings}
    profile = profile_of(sweep.device.profile, shown="sweep.json")
    yield from wrong_limit(sweep.data, sweep.settings, has_converters=profile.needs_kernel)
    if stated.get("tolerances") != ",".join(f"{point.tolerance:g}" for point in sweep.points):
        yield "settings.tolerances"
    if any(point.monte_carlo.trials != stated.get("trials") for point in sweep.points):
        yield "settings.trials"
    if stated.get("effort") != sweep.effort:
        yield "settings.effort"
    has_witnesses = [bool(point.worst_found.witness) for point in sweep.points]
    if has_witnesses != [bool(stated.get("witnesses"))] * len(sweep.points):
        yield "settings.witnesses"
    arguments = named_arguments(sweep.command)
    given = [(row.key, row.value) for row in sweep.settings if not row.is_default]
    if sweep.command != sweep_command(
        sweep.model.name, arguments.get("--data", ""), arguments.get("--device", ""), given
    ):
        yield "command"
