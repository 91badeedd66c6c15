"""Puts a sweep together as plain values that follow its published schema."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from cimrobust.certificate.blocks import item
from cimrobust.certificate.blocks.results import CONFIDENCE, KPP_PERCENTAGES, finite
from cimrobust.certificate.evidence import RunSetting, RunTimings
from cimrobust.certificate.models import Setting, Timings
from cimrobust.certificate.models.swept import (
    CleanScores,
    SafeStatistical,
    SafeTolerances,
    SweepModel,
    SweptChips,
    SweptKpp,
    SweptMember,
    SweptPoint,
    SweptProof,
    SweptWorst,
)
from cimrobust.certificate.models.swept import SafeTolerance as SafeBlock
from cimrobust.diagnose import safe as safes
from cimrobust.diagnose.safe import SafeTolerance
from cimrobust.diagnose.worst import Proof, Worst
from cimrobust.engine.open import Runtime
from cimrobust.errors import SelfCheckError
from cimrobust.graph.network import Network
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.table import TrialTable, kpp

_NOT_COVERED = [
    "A search proves nothing about chips it did not try: below the unrefuted tolerance there may be chips that miss the requirement.",
    "Drawn chips follow the profile's distribution, scaled to each tolerance; real devices may be distributed otherwise.",
    "Every number is about the samples used.",
]


@dataclass(frozen=True)
class Safe:
    """Largest safe tolerances for a required score."""

    required: float
    unrefuted: SafeTolerance
    statistical: SafeTolerance
    certified: SafeTolerance


@dataclass(frozen=True)
class SweepEvidence:
    """What a sweep found.

    Attributes:
        network: The network as loaded.
        placement: Where it is stored at the profile's own tolerance.
        runtime: The deployed network and its data.
        worst: Worst chip found at every tolerance, ascending.
        tables: Drawn chips by tolerance.
        proofs: What is proven by tolerance.
        safe: Largest safe tolerances; None: no score is required.
        witnesses: Digest of witness files by name, by tolerance.
        effort: Level of effort.
        settings: Resolved configuration.
        device_argument: Device profile as the user named it.
        data_argument: Data set as the user named it.
        timings: Where the time went.
    """

    network: Network
    placement: Placement
    runtime: Runtime
    worst: tuple[Worst, ...]
    tables: Mapping[float, TrialTable]
    proofs: Mapping[float, Proof]
    safe: Safe | None
    witnesses: Mapping[float, Mapping[str, str]]
    effort: str
    settings: tuple[RunSetting, ...]
    device_argument: str
    data_argument: str
    timings: RunTimings


def assemble_sweep(evidence: SweepEvidence) -> SweepModel:
    """Return a sweep.

    Raises:
        SelfCheckError: They do not follow the schema, or the curve of worst scores rises.
    """
    runtime, timings = evidence.runtime, evidence.timings
    made = SweepModel(
        schema_version="1.2",
        tool=item.tool(),
        metric=item.metric(runtime.task),
        model=item.model(evidence),
        data=item.data(evidence),
        device=item.device(evidence.placement),
        settings=[Setting(key=s.key, value=s.value, is_default=s.is_default) for s in evidence.settings],
        effort=evidence.effort,  # type: ignore[arg-type]  # checked by pydantic
        clean=CleanScores(
            score=finite(runtime.clean.value), quantised_score=finite(runtime.quantised.value), samples=runtime.clean.num_samples
        ),
        points=[_point(worst, evidence) for worst in evidence.worst],
        safe=None if evidence.safe is None else _safe(evidence.safe, evidence),
        safe_reason="no score is required (--require)" if evidence.safe is None else None,
        not_covered=[*_NOT_COVERED, *_layer_rows(evidence)],
        warnings=list(runtime.warnings),
        command=_command(evidence),
        timings=Timings(
            workers=timings.workers,
            total_seconds=round(sum(timings.stages.values()), 3),
            stages={name: round(seconds, 3) for name, seconds in timings.stages.items()},
        ),
    )
    error = next(iter(_validator().iter_errors(made.model_dump())), None)
    if error is not None:
        raise SelfCheckError(f"sweep must follow its schema, got {error.message} ({error.json_path}); report this")
    return made


def _point(worst: Worst, evidence: SweepEvidence) -> SweptPoint:
    proof = evidence.proofs[worst.tolerance]
    return SweptPoint(
        tolerance=worst.tolerance,
        worst_found=SweptWorst(
            score=finite(worst.score.value),
            correct=worst.score.count,
            file_score=finite(worst.file_score.value),
            member=worst.member,
            passes=worst.passes,
            evaluations=worst.evaluations,
            has_twin=worst.has_twin,
            members=[
                SweptMember(name=row.name, score=finite(row.score.value), correct=row.score.count, passes=row.passes)
                for row in worst.members
            ],
            replay_note=worst.replay_note,
            witness=dict(evidence.witnesses.get(worst.tolerance, {})),
        ),
        monte_carlo=_chips(evidence.tables[worst.tolerance]),
        certified=SweptProof(
            score=None if proof.score is None else finite(proof.score.value),
            correct=None if proof.score is None else proof.score.count,
            not_tried=proof.not_tried,
            reason=proof.reason or None,
        ),
    )


def _chips(table: TrialTable) -> SweptChips:
    bounds = [kpp(table, k, CONFIDENCE) for k in KPP_PERCENTAGES]
    return SweptChips(
        trials=table.num_trials,
        mean=finite(table.mean),
        std=finite(table.std),
        min=finite(float(table.value.min())),
        max=finite(float(table.value.max())),
        kpp=[
            SweptKpp(
                k=bound.k,
                score=finite(bound.score),
                lower_bound=None if bound.bound is None else finite(bound.bound),
                confidence=bound.confidence,
                needed_trials=bound.needed_trials,
            )
            for bound in bounds
        ],
    )


def _safe(safe: Safe, evidence: SweepEvidence) -> SafeTolerances:
    metric, k = evidence.runtime.task.metric, safes.PERCENT
    required = f"{100 * safe.required:.4g} %" if metric == "accuracy" else f"{safe.required:.4g}"
    rule = f"{'at least' if evidence.runtime.task.higher_is_better else 'at most'} {required}"
    claims = {
        "unrefuted": f"no chip was found that misses {metric} {rule}; others may",
        "statistical": f"all but {k:g} % of chips drawn as stated have {metric} {rule}, at {100 * safes.CONFIDENCE:g} % confidence",
        "certified": f"every chip has {metric} {rule}, by proof",
    }
    found = safe.statistical
    return SafeTolerances(
        required=safe.required,
        unrefuted=SafeBlock(**_claim(safe.unrefuted, claims["unrefuted"])),
        statistical=SafeStatistical(
            **_claim(found, claims["statistical"]),
            k=k,
            confidence=safes.CONFIDENCE,
            fresh_trials=found.trials,
            test_confidence=found.confidence,
        ),
        certified=SafeBlock(**_claim(safe.certified, claims["certified"])),
    )


def _claim(found: SafeTolerance, claim: str) -> dict[str, Any]:
    if found.tolerance is None:
        statement = f"At no tolerance: {found.reason}."
    else:
        beyond = "larger ones were not tried" if found.fails_at is None else f"not at {100 * found.fails_at:.4g} %"
        statement = f"Up to a tolerance of {100 * found.tolerance:.4g} % {claim}; {beyond}."
    return {
        "tolerance": found.tolerance,
        "fails_at": found.fails_at,
        "reason": found.reason or None,
        "tried": list(found.tried),
        "statement": statement,
    }


def _layer_rows(evidence: SweepEvidence) -> list[str]:
    """Say what happens to layers that the rules of the profile decide for."""
    profile, scan = evidence.placement.profile, evidence.runtime.scan
    own = [layer.initializer for layer in scan.layers if layer.rule is not None and profile.rules[layer.rule].device is not None]
    digital = [node for node in scan.unmapped if node.rule is not None]
    rows = []
    if own:
        rows.append(
            f"The tolerances are those of the profile's own devices; {', '.join(own)} have a tolerance of their own and keep its ratio to it."
        )
    if digital:
        rows.append(
            f"Digital by the rules of the profile, and exact at every tolerance: {', '.join(dict.fromkeys(node.node for node in digital))}."
        )
    return rows


def _command(evidence: SweepEvidence) -> str:
    parts = ["cimrobust", "sweep", evidence.network.path.name, "--data", evidence.data_argument.rstrip("/").rsplit("/", 1)[-1]]
    parts += ["--device", evidence.device_argument.rstrip("/").rsplit("/", 1)[-1], "--out", "out"]
    for setting in evidence.settings:
        if not setting.is_default:
            parts += [f"--{setting.key}"] if setting.value is True else [f"--{setting.key}", str(setting.value)]
    return shlex.join(parts)


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(SweepModel.published_schema())
