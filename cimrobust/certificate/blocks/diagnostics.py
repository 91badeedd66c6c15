"""What explains the numbers: effects in turn, and the diagnostics of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from cimrobust.certificate import models
from cimrobust.certificate.blocks.device_level import stuck_devices, write_verify
from cimrobust.certificate.blocks.results import finite
from cimrobust.certificate.evidence import Evidence
from cimrobust.data.decision import Score
from cimrobust.diagnose.catalogue import DIAGNOSTICS
from cimrobust.diagnose.layers import Layers
from cimrobust.diagnose.protocol import Outcome
from cimrobust.diagnose.run import NOT_CHOSEN


def diagnostics(evidence: Evidence) -> models.Diagnostics:
    """Describe which effect costs what, and what every diagnostic found or why it did not run."""
    outcomes = () if evidence.diagnosis is None else evidence.diagnosis.outcomes
    fields: dict[str, Any] = {diagnostic.name: None for diagnostic in DIAGNOSTICS}
    fields |= {f"{diagnostic.name}_reason": NOT_CHOSEN for diagnostic in DIAGNOSTICS}
    for outcome in outcomes:
        fields[outcome.name] = None if outcome.result is None else BLOCKS[outcome.name](outcome.result)
        fields[f"{outcome.name}_reason"] = outcome.reason or None
    return models.Diagnostics(
        effects=_effects(evidence), costs=[_cost(outcome) for outcome in outcomes if outcome.result is not None], **fields
    )


def _effects(evidence: Evidence) -> list[models.Effect]:
    before = [evidence.effects[0], *(row for row, _ in pairwise(evidence.effects))]
    return [
        models.Effect(
            effect=row.effect,
            mean=finite(row.mean),
            low=finite(row.low),
            high=finite(row.high),
            chips=row.chips,
            change=finite(row.mean) - finite(last.mean),
        )
        for row, last in zip(evidence.effects, before, strict=True)
    ]


def _cost(outcome: Outcome) -> models.DiagnosticCost:
    return models.DiagnosticCost(
        name=outcome.name, passes=outcome.passes, evaluations=outcome.evaluations, seconds=round(outcome.seconds, 3)
    )


def _attacked(score: Score, origin: str) -> models.Attacked:
    return models.Attacked(score=finite(score.value), correct=score.count, origin=origin)


def _layers(found: Layers) -> models.LayerAttacks:
    return models.LayerAttacks(
        rows=[
            models.LayerAttack(
                initializer=row.initializer,
                alone=_attacked(row.alone, row.alone_origin),
                others=None if row.others is None else _attacked(row.others, row.others_origin),
            )
            for row in found.rows
        ],
        crafting_samples=found.crafting_samples,
        passes_each=found.passes_each,
    )


#: How the result of every diagnostic becomes a block.
BLOCKS: Mapping[str, Callable[[Any], models.Block]] = {"layers": _layers, "stuck_devices": stuck_devices, "write_verify": write_verify}
