"""The course of the search, as far as its own numbers and its effort tell of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from cimrobust.certificate.blocks.likelihood import MEANING, likelihood_in_words
from cimrobust.certificate.programmed import programmed_score
from cimrobust.certify.octaves import STEPS
from cimrobust.device.load_profile import profile_of
from cimrobust.montecarlo.montecarlo_records import EFFECT_CHIPS
from cimrobust.review.differences import named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.search.replay_tolerance import allowed_difference
from cimrobust.search.search_budget import budget_of
from cimrobust.search.trace import NEAR

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, EffortPoint

_CORNERS = "random_corners"
# The worst chip drawn, which every search begins with.
_DRAWN = "worst_drawn_chip"
# Searches of diagnostics that found a worse chip have passes of their own.
_DIAGNOSTIC = "diagnostic_"
# Scores of one pattern: sums of shares.
_RTOL = 1e-12


def search_check(certificate: CertificateModel) -> ReplayCheck:
    """Check members, passes and what else an effort decides against the effort that is stated.

    Args:
        certificate: The certificate.
    """
    wrong = [
        *_wrong_members(certificate),
        *_wrong_known(certificate),
        *_wrong_likelihood(certificate),
        *_wrong_curve(certificate),
    ]
    if is_of_today(certificate, certificate.tool):
        wrong += _wrong_effort(certificate)
    worst = certificate.worst_found
    return ReplayCheck(
        "search_numbers",
        not wrong,
        f"{len(worst.members)} members as effort {worst.effort} has them"
        if not wrong
        else f"contradicted at {named(wrong)}",
    )


def _wrong_members(certificate: CertificateModel) -> Iterator[str]:
    worst = certificate.worst_found
    names = [row.name for row in worst.members] + [row.name for row in worst.not_run]
    if len(set(names)) < len(names):
        yield "worst_found.members"
    own = [row.score for row in worst.members if row.name == worst.member]
    # Without members, and where none found anything worse, it is the chip without deviation.
    if not own and worst.member != "no_deviation":
        yield "worst_found.member"
    if own and not math.isclose(own[0], worst.replay.engine_score, rel_tol=_RTOL):
        yield "worst_found.replay.engine_score"
    if worst.has_twin is (worst.twin_reason is not None):
        yield "worst_found.twin_reason"


def _wrong_known(certificate: CertificateModel) -> Iterator[str]:
    """Yield where a search does worse than what it knows from the start.

    That is the chip without deviation, and the worst chip drawn.
    """
    worst, drawn = certificate.worst_found, certificate.monte_carlo
    higher, nominal = certificate.metric.higher_is_better, programmed_score(certificate)
    found = worst.replay.engine_score

    def is_near(score: float, other: float) -> bool:
        """Return whether two runs of one chip may give these scores: batches round their sums."""
        return abs(score - other) <= allowed_difference(
            other,
            num_samples=certificate.clean.samples,
            is_share=certificate.metric.unit == "fraction",
        )

    if ((found > nominal) if higher else (found < nominal)) and not is_near(found, nominal):
        yield "worst_found.score"
    if worst.member == "no_deviation" and not is_near(found, nominal):
        yield "worst_found.member"
    given = [row.score for row in worst.members if row.name == _DRAWN]
    if not given and is_of_today(certificate, certificate.tool):
        yield "worst_found.members"
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    # A chip that leaves the box is brought inside; one that is read with noise scores otherwise.
    is_itself = (
        certificate.device.excluded_probability == 0
        and not profile.needs_kernel
        and not profile.has_faults
        and not any(
            row.key == "trials-on" and row.value == "device" for row in certificate.settings
        )
    )
    extreme = drawn.min if higher else drawn.max
    if is_itself and not all(is_near(score, extreme) for score in given):
        yield f"worst_found.members ({_DRAWN})"


def _wrong_likelihood(certificate: CertificateModel) -> Iterator[str]:
    """Yield where distance and probability of the worst chip are not of one normal distribution."""
    likelihood = certificate.worst_found.likelihood
    if likelihood is None:
        return
    log10 = -(likelihood.distance**2) / (2 * math.log(10))
    if not math.isclose(likelihood.log10_probability, log10, rel_tol=1e-9):
        yield "worst_found.likelihood.log10_probability"
    if is_of_today(certificate, certificate.tool):
        words = likelihood_in_words(
            likelihood.distance, likelihood.drawn_distance, likelihood.log10_probability
        )
        if (likelihood.statement, likelihood.meaning) != (words, MEANING):
            yield "worst_found.likelihood.statement"
    weights = likelihood.drawn_distance**2
    if weights > certificate.model.mapped_weights * (1 + 1e-9):
        yield "worst_found.likelihood.drawn_distance"


def _wrong_curve(certificate: CertificateModel) -> Iterator[str]:
    """Yield where a search is said to find better chips the longer it searches."""
    curve, higher = certificate.worst_found.effort_curve, certificate.metric.higher_is_better
    if curve is None:
        return
    if not curve.points:
        yield "worst_found.effort_curve.points"
        return
    steps = list(pairwise(curve.points))
    if any(
        later.passes < one.passes
        or later.seconds < one.seconds
        or (later.score >= one.score if higher else later.score <= one.score)
        for one, later in steps
    ):
        yield "worst_found.effort_curve.points"
    # A certificate keeps some points of the course; the near one need not be among them.
    first, last = curve.near, curve.points[-1]
    near = [point for point in curve.points if _is_near(point, last, higher=higher)]
    if (
        not _is_near(first, last, higher=higher)
        or (first.score < last.score if higher else first.score > last.score)
        or any((point.passes, point.seconds) < (first.passes, first.seconds) for point in near)
    ):
        yield "worst_found.effort_curve.near"


def _is_near(point: EffortPoint, last: EffortPoint, *, higher: bool) -> bool:
    return point.score <= NEAR * last.score if higher else NEAR * point.score >= last.score


def _wrong_effort(certificate: CertificateModel) -> Iterator[str]:
    """Yield what no run of the stated effort has."""
    worst = certificate.worst_found
    budget = budget_of(worst.effort)
    given = {row.key: row.value for row in certificate.settings}
    passes, samples = given.get("passes"), given.get("attack-samples")
    used = sum(row.passes for row in worst.members if not row.name.startswith(_DIAGNOSTIC))
    if used > _least(passes, budget.num_passes):
        yield "worst_found.members.passes"
    most = min(certificate.data.used, _least(samples, budget.max_samples))
    if worst.crafting_samples > most:
        yield "worst_found.crafting_samples"
    named_members = {row.name for row in worst.members} | {row.name for row in worst.not_run}
    if not {_CORNERS, "corner_search", *budget.shares} <= named_members:
        yield "worst_found.not_run"
    corners = budget.random_corners + budget.random_corners // 2
    for row in worst.members:
        if row.name == _CORNERS and passes is None and row.evaluations != corners:
            yield "worst_found.members.evaluations"
    largest = certificate.certified.largest_tolerance
    if largest is not None and largest.steps_per_octave != STEPS[worst.effort]:
        yield "certified.largest_tolerance.steps_per_octave"
    chips = min(EFFECT_CHIPS[worst.effort], certificate.monte_carlo.trials)
    effects = () if certificate.diagnostics is None else certificate.diagnostics.effects
    stopped = certificate.monte_carlo.stopping is not None
    if not stopped and any(row.chips not in (0, chips) for row in effects):
        yield "diagnostics.effects.chips"


def _least(given: object, otherwise: int) -> int:
    return given if isinstance(given, int) and not isinstance(given, bool) else otherwise
