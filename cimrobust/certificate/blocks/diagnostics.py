"""What explains the numbers: effects in turn, and the diagnostics of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cimrobust.certificate import models
from cimrobust.certificate.blocks.device_level_block import write_verify
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.diagnose.diagnostic_names import NAMES, NOT_CHOSEN
from cimrobust.diagnose.transfer_result import CONFIDENCE, MEANINGS, Transfer
from cimrobust.records import Record, finite
from cimrobust.search.witness import SAFETY_FILE

if TYPE_CHECKING:
    from cimrobust.attack.diagnosis_protocol import Outcome
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.diagnose.fragile_inputs import FragileInputs
    from cimrobust.diagnose.safety_class import SafetyClass
    from cimrobust.diagnose.tolerance_curve import ToleranceCurve


def diagnostics(evidence: Evidence) -> models.Diagnostics:
    """Describe which effect costs what, and what every diagnostic found or why it did not run."""
    outcomes = () if evidence.diagnosis is None else evidence.diagnosis.outcomes
    fields: dict[str, Any] = dict.fromkeys(NAMES)
    fields |= {f"{name}_reason": NOT_CHOSEN for name in NAMES}
    for outcome in outcomes:
        fields[outcome.name] = _worded(outcome, evidence)
        fields[f"{outcome.name}_reason"] = outcome.reason or None
    return models.Diagnostics(
        effects=evidence.effects.rows,
        costs=[_cost(outcome) for outcome in outcomes if outcome.result is not None],
        **fields,
    )


def _worded(outcome: Outcome, evidence: Evidence) -> Record | None:
    """Return the block of a result: with words where it needs some, else as it is."""
    if outcome.result is None or isinstance(outcome.result, Record):
        return outcome.result
    return _WORDED[outcome.name](outcome.result, evidence)


def _cost(outcome: Outcome) -> models.DiagnosticCost:
    return models.DiagnosticCost(
        name=outcome.name,
        passes=outcome.passes,
        evaluations=outcome.evaluations,
        seconds=round(outcome.seconds, 3),
    )


def _safety_class(found: SafetyClass, evidence: Evidence) -> models.SafetyClass:
    return models.SafetyClass(
        label=found.label,
        samples=found.found.num_samples,
        clean=found.clean.value,
        recall=found.found.value,
        correct=found.found.count or 0,
        overall=found.overall.value,
        member=found.member,
        effort=found.effort,  # type: ignore[arg-type]  # checked by pydantic
        passes=found.passes,
        has_twin=found.has_twin,
        replay_note=found.replay_note,
        witness={
            name: digest for name, digest in evidence.witness.items() if name.endswith(SAFETY_FILE)
        },
    )


def _transfer(found: Transfer) -> models.Transfer:
    return models.Transfer(
        directions=found.directions,
        confidence=CONFIDENCE,
        property_of=found.property_of,
        statement=MEANINGS[found.property_of],
        effort=found.effort,  # type: ignore[arg-type]  # checked by pydantic
    )


def _tolerance_curve(found: ToleranceCurve, evidence: Evidence) -> models.ToleranceCurve:
    certified, reason = _certified_tolerance(found.required, evidence)
    return models.ToleranceCurve(
        points=found.points,
        tried=found.tried,
        required=finite(found.required),
        required_by=(
            "the policy"
            if found.is_policy
            else "no policy: half of the clean accuracy, or twice the clean error"
        ),
        unrefuted=found.unrefuted,
        refuted=found.refuted,
        certified=certified,
        certified_samples=evidence.certification.curve_samples,
        certified_reason=reason,
        passes_each=found.passes_each,
    )


def _certified_tolerance(required: float, evidence: Evidence) -> tuple[float | None, str | None]:
    """Return the largest tolerance at which the bound meets the requirement, or why none does.

    Tolerances are those of the certified curve.
    """
    found, higher = evidence.certification, evidence.trials.higher_is_better
    if found.score is None:
        return None, str(found.refusal)
    met = [
        point.scale
        for point in found.curve
        if (point.score.value >= required if higher else point.score.value <= required)
    ]
    if not met:
        return None, "the bound meets the requirement at no tolerance of the certified curve"
    return max(met) * tolerance_fraction(evidence.placement.profile), None


def _fragile_inputs(found: FragileInputs, evidence: Evidence) -> models.FragileInputs:
    tolerance = tolerance_fraction(evidence.placement.profile)
    return models.FragileInputs(
        rows=[
            models.FragileInput(
                sample=row.sample,
                label=row.label,
                margin=row.margin,
                breaks_at=row.share * tolerance,
                becomes=row.becomes,
                pattern=row.pattern,
                certified_to=(
                    None if row.certified_share is None else row.certified_share * tolerance
                ),
            )
            for row in found.rows
        ],
        right=found.right,
        broken=found.broken,
        patterns=list(found.rays),
        own_chips=found.own_chips,
        bound_reason=found.bound_reason or None,
    )


#: How results that are no records become blocks.
_WORDED: Mapping[str, Callable[[Any, Evidence], Record]] = {
    "safety_class": _safety_class,
    "transfer": lambda found, _: _transfer(found),
    "tolerance_curve": _tolerance_curve,
    "fragile_inputs": _fragile_inputs,
    "write_verify": lambda found, _: write_verify(found),
}
