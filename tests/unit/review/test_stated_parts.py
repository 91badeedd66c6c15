"""Parts of a certificate that contradict others, each found by its check, which names the place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.review.decision_counts import counts_check
from cimrobust.review.diagnosed_numbers import diagnosed_check
from cimrobust.review.explained_numbers import explained_check
from cimrobust.review.interval_check import interval_check
from cimrobust.review.reasons_check import reasons_check
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.scope_check import scope_check
from cimrobust.review.self_checks import self_checks_check
from cimrobust.review.stated_item import item_check
from tests.unit.review.test_consistency import one_more, plain, put

Check: TypeAlias = Callable[[CertificateModel], ReplayCheck]
Change: TypeAlias = Callable[[Any], Any]
CHECKS: list[Check] = [
    counts_check,
    diagnosed_check,
    explained_check,
    interval_check,
    item_check,
    reasons_check,
    scope_check,
    self_checks_check,
]


def is_now(value: object) -> Change:
    return lambda _: value


def without(index: int) -> Change:
    return lambda rows: [*rows[:index], *rows[index + 1 :]]


def turned(rows: list[Any]) -> list[Any]:
    return rows[::-1]


def less(step: float) -> Change:
    return lambda value: value - step


NO_DIGEST = is_now("ab" * 31)
FLIPPED, FRAGILE = "worst_found.flipped", "diagnostics.fragile_inputs"
LAYERS, CLASSES = "diagnostics.layers", "diagnostics.classes"
CURVE, TRANSFER = "diagnostics.tolerance_curve", "diagnostics.transfer"
EFFECTS = "diagnostics.effects"
#: The check, what is changed, and what it says of it.
CHANGES: list[tuple[Check, str, Change, str]] = [
    (interval_check, "evaluation_set.confidence", is_now(0.9), "are those of 0.95, .* says 0.9"),
    (interval_check, "evaluation_set.samples", one_more, "it says 191 and 190"),
    (interval_check, "evaluation_set.decisions", one_more, "it says 190 and 191"),
    (interval_check, "evaluation_set.most_decisions", is_now(None), "are not stated"),
    (interval_check, "data.labels", is_now(None), "are not stated"),
    (interval_check, "data.labels.ignored_decisions", one_more, "are not 190 and 1 ignored ones"),
    (interval_check, "evaluation_set.intervals.1.low", less(1e-9), "interval of 'quantised' is"),
    (interval_check, "evaluation_set.intervals.0.high", less(1e-9), "interval of 'clean' is"),
    (interval_check, "evaluation_set.intervals.2.method", is_now("z"), "interval of 'mean' is"),
    (interval_check, "evaluation_set.intervals.0.statement", is_now("x"), "of 'clean' is"),
    (interval_check, "evaluation_set.intervals.0.name", is_now("typical"), "no score 'typical'"),
    (interval_check, "evaluation_set.intervals", without(2), "there must be the intervals of"),
    (interval_check, "evaluation_set.intervals", turned, "there must be the intervals of"),
    (interval_check, "data.label_source", is_now("self"), "of quantised, mean, worst_found, cert"),
    (counts_check, "clean.correct", is_now(None), "clean.correct"),
    (counts_check, "clean.quantised_correct", is_now(None), "clean.quantised_correct"),
    (counts_check, "worst_found.correct", is_now(None), "worst_found.correct"),
    (counts_check, "worst_found.replay.correct", is_now(None), "worst_found.replay.correct"),
    (counts_check, "worst_found.members.3.correct", is_now(None), "members.3.correct"),
    (counts_check, "certified.curve.2.correct", is_now(None), "certified.curve.2.correct"),
    (counts_check, "certified.correct", is_now(None), "certified.correct"),
    (counts_check, "certified.largest_tolerance", is_now(None), "certified.largest_tolerance"),
    (counts_check, "certified.score", is_now(None), "certified.largest_tolerance, .*curve"),
    (counts_check, "worst_found.confusion", lambda r: [r[0], r[1][:2]], "worst_found.confusion"),
    (counts_check, "worst_found.confusion", is_now(None), "worst_found.confusion"),
    (counts_check, "clean.per_class", is_now(None), "clean.per_class"),
    (counts_check, "clean.per_class", turned, "clean.per_class"),
    (counts_check, "clean.per_class.0.samples", one_more, "clean.per_class"),
    (reasons_check, "converters_reason", is_now(None), "converters"),
    (reasons_check, "converters_reason", is_now("  "), "converters"),
    (reasons_check, "policy_reason", is_now("none"), "policy"),
    (reasons_check, "certified.reason", is_now("too costly"), "certified.score"),
    (reasons_check, "certified.score", is_now(None), "certified.score"),
    (reasons_check, "monte_carlo.kpp.1.two_source", is_now(None), "monte_carlo.kpp.1.two_source"),
    (self_checks_check, "checks.3.held", is_now(False), "checks.corner_equals_saved"),
    (self_checks_check, "checks.4.held", is_now(None), "checks.liveness"),
    (self_checks_check, "checks", without(8), "checks"),
    (self_checks_check, "checks", turned, "checks"),
    (self_checks_check, "certified.correct", is_now(None), "checks"),
    (item_check, "model.files.0.sha256", NO_DIGEST, "model.files.0"),
    (item_check, "model.files", is_now([]), "model.files"),
    (item_check, "model.files", lambda files: [*files, *files], "model.files"),
    (item_check, "data.files", lambda f: {**f, "x": "AB" * 32}, "data.files.x"),
    (item_check, "data.labels_of", is_now({"big.onnx": ""}), "data.labels_of.big.onnx"),
    (item_check, "policy_sha256", NO_DIGEST, "policy_sha256"),
    (item_check, "policy_sha256", is_now(None), "policy_sha256"),
    (item_check, "policy_file", is_now("lax.toml"), "policy_file"),
    (item_check, "certified.curve", turned, "certified.curve"),
    (item_check, "certified.curve", lambda curve: curve[:4], "certified.curve"),
    (item_check, "certified.method", is_now(None), "certified.method"),
    (item_check, "data.decision.read", is_now("guess"), "data.decision.read"),
    (item_check, "data.decision.read", is_now("argmax"), "data.decision.threshold"),
    (item_check, "data.decision.k", is_now(2), "data.decision.k"),
    (item_check, "data.decision.threshold", is_now(None), "data.decision.threshold"),
    (item_check, "data.steps", is_now({"other": []}), "data.steps"),
    (item_check, "data.broken", is_now(None), "data.broken"),
    (item_check, "data.broken", is_now(191), "data.broken"),
    (scope_check, "assumptions", without(1), "assumptions"),
    (scope_check, "assumptions.0.how_checked", is_now("by hand"), "assumptions.0.how_checked"),
    (scope_check, "not_covered", without(0), "not_covered"),
    (scope_check, "data.label_source", is_now("self"), "assumptions"),
    (explained_check, f"{EFFECTS}.0.mean", less(0.1), f"{EFFECTS}.0.mean"),
    (explained_check, f"{EFFECTS}.1.change", one_more, f"{EFFECTS}.1.change"),
    (explained_check, f"{EFFECTS}.0.change", one_more, f"{EFFECTS}.0.change"),
    (explained_check, f"{EFFECTS}.2.low", one_more, f"{EFFECTS}.2.mean"),
    (explained_check, f"{EFFECTS}.2.high", less(0.1), f"{EFFECTS}.2.mean"),
    (explained_check, f"{EFFECTS}.1.low", less(0.1), f"{EFFECTS}.1.chips"),
    (explained_check, f"{EFFECTS}.1.high", one_more, f"{EFFECTS}.1.chips"),
    (explained_check, EFFECTS, turned, EFFECTS),
    (explained_check, f"{EFFECTS}.2.effect", is_now("quantised weights"), EFFECTS),
    (diagnosed_check, f"{FLIPPED}.count", is_now(2), f"{FLIPPED}.count"),
    (diagnosed_check, f"{FLIPPED}.count", is_now(12), f"{FLIPPED}.count"),
    (diagnosed_check, f"{FLIPPED}.rows", is_now([]), f"{FLIPPED}.rows"),
    (diagnosed_check, f"{FLIPPED}.rows.0.sample", is_now(190), f"{FLIPPED}.rows"),
    (diagnosed_check, f"{FLIPPED}.rows", lambda r: [r[0], *r[:-1]], f"{FLIPPED}.rows"),
    (diagnosed_check, f"{FLIPPED}.rows.0.becomes", is_now(1), f"{FLIPPED}.rows"),
    (diagnosed_check, f"{FLIPPED}.rows.0.becomes", is_now(-1), f"{FLIPPED}.rows"),
    (diagnosed_check, f"{FLIPPED}.rows.0.label", is_now(2), f"{FLIPPED}.rows"),
    (diagnosed_check, f"{FLIPPED}.rows.0.worst_margin", is_now(0.1), "rows.0.margin"),
    (diagnosed_check, f"{FLIPPED}.rows.1.margin", is_now(-0.1), "rows.1.margin"),
    (diagnosed_check, f"{FRAGILE}.right", one_more, f"{FRAGILE}.right"),
    (diagnosed_check, f"{FRAGILE}.broken", is_now(2), f"{FRAGILE}.broken"),
    (diagnosed_check, f"{FRAGILE}.broken", is_now(183), f"{FRAGILE}.broken"),
    (diagnosed_check, f"{FRAGILE}.rows", turned, f"{FRAGILE}.rows"),
    (diagnosed_check, f"{FRAGILE}.rows", lambda rows: rows[:3], f"{FRAGILE}.rows"),
    (diagnosed_check, f"{FRAGILE}.rows.4.sample", is_now(190), f"{FRAGILE}.rows"),
    (diagnosed_check, f"{FRAGILE}.rows.4.sample", is_now(99), f"{FRAGILE}.rows"),
    (diagnosed_check, f"{FRAGILE}.patterns", is_now([]), f"{FRAGILE}.patterns"),
    (diagnosed_check, f"{FRAGILE}.patterns", lambda p: [*p, p[0]], f"{FRAGILE}.patterns"),
    (diagnosed_check, f"{FRAGILE}.rows.0.breaks_at", is_now(0.0), "rows.0.breaks_at"),
    (diagnosed_check, f"{FRAGILE}.rows.4.breaks_at", is_now(0.031), "rows.4.breaks_at"),
    (diagnosed_check, f"{FRAGILE}.rows.0.becomes", is_now(0), "rows.0.becomes"),
    (diagnosed_check, f"{FRAGILE}.rows.0.pattern", is_now("magic"), "rows.0.pattern"),
    (diagnosed_check, f"{FRAGILE}.rows.0.margin", is_now(-0.1), "rows.0.margin"),
    (diagnosed_check, f"{FRAGILE}.rows.0.certified_to", is_now(None), "rows.0.certified_to"),
    (diagnosed_check, f"{FRAGILE}.rows.0.certified_to", is_now(0.0037), "rows.0.certified_to"),
    (diagnosed_check, f"{FRAGILE}.rows.0.certified_to", is_now(-0.1), "rows.0.certified_to"),
    (diagnosed_check, f"{FRAGILE}.bound_reason", is_now("none"), "rows.0.certified_to"),
    (diagnosed_check, f"{LAYERS}.rows", turned, f"{LAYERS}.rows"),
    (diagnosed_check, f"{LAYERS}.rows", without(2), f"{LAYERS}.rows"),
    (diagnosed_check, f"{LAYERS}.rows.1.others", is_now(None), "rows.1.others"),
    (diagnosed_check, f"{LAYERS}.rows.1.others.score", less(0.001), "rows.1.others.score"),
    (diagnosed_check, f"{LAYERS}.rows.0.alone.correct", is_now(None), "rows.0.alone.score"),
    (diagnosed_check, f"{CLASSES}.classes", one_more, f"{CLASSES}.rows"),
    (diagnosed_check, f"{CLASSES}.left_out", is_now([1]), f"{CLASSES}.rows"),
    (diagnosed_check, f"{CLASSES}.rows", turned, f"{CLASSES}.rows"),
    (diagnosed_check, f"{CLASSES}.rows.0.samples", one_more, f"{CLASSES}.rows.0.samples"),
    (diagnosed_check, f"{CLASSES}.rows.0.correct", one_more, f"{CLASSES}.rows.0.recall"),
    (diagnosed_check, f"{CLASSES}.rows.0.clean", less(0.1), f"{CLASSES}.rows.0.clean"),
    (diagnosed_check, f"{CLASSES}.rows.0.becomes", is_now(0), f"{CLASSES}.rows.0.becomes"),
    (diagnosed_check, f"{CLASSES}.rows.0.overall", less(0.001), f"{CLASSES}.rows.0.overall"),
    (diagnosed_check, f"{CLASSES}.rows.0.overall", is_now(1.0), f"{CLASSES}.rows.0.overall"),
    (diagnosed_check, f"{CURVE}.points.0.tolerance", less(0.001), f"{CURVE}.points"),
    (diagnosed_check, f"{CURVE}.points", without(4), f"{CURVE}.points"),
    (diagnosed_check, f"{CURVE}.points.0.correct", is_now(None), f"{CURVE}.points.score"),
    (diagnosed_check, f"{CURVE}.points.0.correct", one_more, f"{CURVE}.points.score"),
    (diagnosed_check, f"{CURVE}.required", is_now(0.7), f"{CURVE}.required"),
    (diagnosed_check, f"{CURVE}.required_by", is_now("us"), f"{CURVE}.required_by"),
    (diagnosed_check, f"{CURVE}.unrefuted", is_now(0.03), f"{CURVE}.unrefuted"),
    (diagnosed_check, f"{CURVE}.refuted", is_now(0.045), f"{CURVE}.refuted"),
    (diagnosed_check, f"{CURVE}.certified", is_now(0.015), f"{CURVE}.certified"),
    (diagnosed_check, f"{CURVE}.certified", is_now(None), f"{CURVE}.certified"),
    (diagnosed_check, f"{CURVE}.certified_samples", one_more, f"{CURVE}.certified_samples"),
    (diagnosed_check, f"{TRANSFER}.confidence", is_now(0.9), f"{TRANSFER}.directions"),
    (diagnosed_check, f"{TRANSFER}.directions", without(0), f"{TRANSFER}.directions"),
    (diagnosed_check, f"{TRANSFER}.directions.0.searched_samples", one_more, "directions"),
    (diagnosed_check, f"{TRANSFER}.directions.0.searched_clean", less(0.1), "directions"),
    (diagnosed_check, f"{TRANSFER}.directions.1.searched_clean", less(0.1), "directions"),
    (diagnosed_check, f"{TRANSFER}.directions.0.low", less(0.001), "directions.0.low"),
    (diagnosed_check, f"{TRANSFER}.directions.1.high", less(0.001), "directions.1.low"),
    (diagnosed_check, f"{TRANSFER}.directions.0.method", is_now("t"), "directions.0.low"),
    (diagnosed_check, f"{TRANSFER}.directions.0.share", is_now(0.5), "directions.0.share"),
    (diagnosed_check, f"{TRANSFER}.property_of", is_now("chip"), "transfer.property_of"),
    (diagnosed_check, f"{TRANSFER}.statement", is_now("Nothing."), "transfer.statement"),
    (diagnosed_check, "diagnostics.costs", without(0), "diagnostics.costs"),
    (diagnosed_check, f"{LAYERS}.crafting_samples", less(1), "diagnostics.crafting_samples"),
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_genuine_certificate_holds(check: Check) -> None:
    found = check(CertificateModel.model_validate(plain()))
    assert found.held
    assert not re.search("contradicted|without|missing|follow at|neither", found.detail)


@pytest.mark.parametrize(
    ("check", "place", "change", "said"),
    CHANGES,
    ids=[f"{place} {number}" for number, (_, place, *_) in enumerate(CHANGES)],
)
def test_one_changed_part_is_found_and_named(
    check: Check, place: str, change: Change, said: str
) -> None:
    values = plain()
    put(place, change)(values)
    found = check(CertificateModel.model_validate(values))
    assert found.held is False
    assert re.search(said, found.detail), found.detail
