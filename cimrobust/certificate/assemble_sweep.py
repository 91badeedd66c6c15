"""Puts a sweep together as plain values that follow its published schema."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cimrobust.certificate.blocks import item_block as item
from cimrobust.certificate.blocks.drawn_chips import CONFIDENCE, KPP_PERCENTAGES
from cimrobust.certificate.certificate_files import check_own
from cimrobust.certificate.models import Setting, Timings
from cimrobust.certificate.models.swept import (
    CleanScores,
    SafeTolerances,
    SweepModel,
    SweptChips,
    SweptKpp,
    SweptPoint,
    SweptProof,
    SweptWorst,
)
from cimrobust.engine.machine import this_machine
from cimrobust.engine.open import Runtime
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.trial_table import TrialTable, kpp
from cimrobust.onnx_io.network import Network
from cimrobust.records import finite
from cimrobust.tolerance_sweep.worst_at_tolerance import Proof, Worst

NOT_COVERED = [
    (
        "A search proves nothing about chips it did not try: below the unrefuted tolerance there"
        " may be chips that miss the requirement."
    ),
    (
        "Drawn chips follow the profile's distribution, scaled to each tolerance; real devices may"
        " be distributed otherwise."
    ),
    "Every number is about the samples used.",
]


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
    safe: SafeTolerances | None
    witnesses: Mapping[float, Mapping[str, str]]
    effort: str
    settings: tuple[Setting, ...]
    device_argument: str
    data_argument: str
    timings: Timings


def assemble_sweep(evidence: SweepEvidence) -> SweepModel:
    """Return a sweep.

    Raises:
        SelfCheckError: They do not follow the schema, or the curve of worst scores rises.
    """
    runtime, timings = evidence.runtime, evidence.timings
    made = SweepModel(
        schema_version="1.3",
        tool=item.tool(),
        machine=this_machine(),
        machine_reason=None,
        metric=item.metric(runtime.task),
        model=item.model(evidence),
        data=item.data(evidence),
        device=item.device(evidence.placement),
        settings=list(evidence.settings),
        effort=evidence.effort,  # type: ignore[arg-type]  # checked by pydantic
        clean=CleanScores(
            score=finite(runtime.clean.value),
            quantised_score=finite(runtime.quantised.value),
            samples=runtime.clean.num_samples,
        ),
        points=[_point(worst, evidence) for worst in evidence.worst],
        safe=evidence.safe,
        safe_reason="no score is required (--require)" if evidence.safe is None else None,
        not_covered=[*NOT_COVERED, *_layer_rows(evidence)],
        warnings=list(runtime.warnings),
        command=sweep_command(
            evidence.network.path.name,
            evidence.data_argument,
            evidence.device_argument,
            [(s.key, s.value) for s in evidence.settings if not s.is_default],
        ),
        timings=timings,
    )
    check_own(made)
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
            members=list(worst.members),
            replay_note=worst.replay_note,
            witness=dict(evidence.witnesses.get(worst.tolerance, {})),
        ),
        monte_carlo=swept_chips(evidence.tables[worst.tolerance]),
        certified=swept_proof(proof),
    )


def swept_proof(proof: Proof) -> SweptProof:
    """Describe what is proven at one tolerance."""
    return SweptProof(
        score=None if proof.score is None else finite(proof.score.value),
        correct=None if proof.score is None else proof.score.count,
        not_tried=proof.not_tried,
        reason=proof.reason or None,
    )


def swept_chips(table: TrialTable) -> SweptChips:
    """Describe the chips drawn at one tolerance."""
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


def _layer_rows(evidence: SweepEvidence) -> list[str]:
    """Say what happens to layers that the rules of the profile decide for."""
    profile, scan = evidence.placement.profile, evidence.runtime.scan
    own = [
        layer.initializer
        for layer in scan.layers
        if layer.rule is not None and profile.rules[layer.rule].device is not None
    ]
    digital = [node for node in scan.unmapped if node.rule is not None]
    rows = []
    if own:
        rows.append(
            f"The tolerances are those of the profile's own devices; {', '.join(own)} have a"
            " tolerance of their own and keep its ratio to it."
        )
    if digital:
        rows.append(
            "Digital by the rules of the profile, and exact at every tolerance:"
            f" {', '.join(dict.fromkeys(node.node for node in digital))}."
        )
    return rows


def sweep_command(
    model: str,
    data: str,
    device: str,
    settings: Iterable[tuple[str, int | float | str | bool | None]],
) -> str:
    """Return the command that makes a sweep again.

    Args:
        model: File name of the model.
        data: Evaluation data as the user named them.
        device: Device profile as the user named it.
        settings: Names and values of the settings that are not the defaults.
    """
    parts = ["cimrobust", "sweep", model, "--data", data.rstrip("/").rsplit("/", 1)[-1]]
    parts += ["--device", device.rstrip("/").rsplit("/", 1)[-1], "--out", "out"]
    for key, value in settings:
        parts += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return shlex.join(parts)
