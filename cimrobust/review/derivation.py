"""Derive a whole certificate again, and compare it with the claimed one.

It is derived from network, profile, samples, seeds, trials and witness.

Only what a search found on its way is taken from the claim: members, their passes, diagnostics,
rare failures. `rerun.py` derives those too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.certificate.assemble import assemble
from cimrobust.certificate.blocks.limits_block import NO_EFFECTS
from cimrobust.certificate.evidence import Evidence
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.result_names import CERTIFIED, TRIALS, WITNESS
from cimrobust.certificate.verdict import judge
from cimrobust.certify import per_sample
from cimrobust.certify.bound_summary import Certification
from cimrobust.certify.per_sample import PerSample
from cimrobust.certify.refusal import Refusal, lacks_memory
from cimrobust.data.decision import Score
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.engine.original_file import run_original
from cimrobust.errors import CimrobustError
from cimrobust.mapping.box import Pattern, box_of
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.montecarlo.effect_costs import EffectTable
from cimrobust.montecarlo.trial_table import TrialTable, from_parquet
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.derived_stages import bound, tabulate_effects
from cimrobust.review.agreement import NOT_DERIVED, block_check
from cimrobust.review.described_data import data_check, has_other_description
from cimrobust.review.differences import named
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.stored_witness import stored_pattern, wrong_parts
from cimrobust.search.device_witness import write_device_witness
from cimrobust.search.search_results import MemberResult, SearchResult
from cimrobust.search.witness import DEVIATIONS_FILE, MODEL_FILE
from cimrobust.search.witness_replay import confirm
from cimrobust.twin_trials.confirmed_trials import TRIALS_ON_DEVICE

if TYPE_CHECKING:
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis


class OtherMemoryError(CimrobustError):
    """There is no memory for the certified bound here; what rests on it cannot be compared."""


@dataclass(frozen=True)
class Witness:
    """The worst chip of a certificate, run again.

    Attributes:
        pattern: Its deviations.
        file_output: Decision output of the model file that is stored with it.
        output: Decision output of these weights in the engine of the run.
    """

    pattern: Pattern
    file_output: Shaped[np.ndarray, "samples ..."]
    output: Shaped[np.ndarray, "samples ..."]


@dataclass(frozen=True)
class Derived:
    """What follows from what is at hand.

    Attributes:
        certificate: The certificate that follows.
        proven: What is proven of every sample; None: nothing is.
    """

    certificate: CertificateModel
    proven: PerSample | None


def witness_checks(directory: Path, opened: OpenedAnalysis) -> Iterator[ReplayCheck]:
    """Compare what the witness states as nominal weights and box with those of model and profile.

    Args:
        directory: Folder of the certificate.
        opened: The analysis, opened again.
    """
    tensors = read_pattern(directory / WITNESS / DEVIATIONS_FILE, what="deviations of the witness")
    for part, wrong in wrong_parts(tensors, box_of(opened.placement)).items():
        says = (
            "the quantised weights of the model"
            if part == "nominal"
            else "the tolerance interval of every weight"
        )
        yield ReplayCheck(
            f"witness_{part}",
            not wrong,
            (
                says
                if not wrong
                else f"'{part}' of {named(wrong)} does not follow from model and profile"
            ),
        )


def run_witness(directory: Path, opened: OpenedAnalysis) -> Witness:
    """Run the worst chip again: its file, and its deviations in the network that is certified.

    Args:
        directory: Folder of the certificate.
        opened: The analysis, opened again.

    Raises:
        InputRefusedError: Deviations are missing or leave the box of model and profile.
    """
    runtime, threads = opened.runtime, opened.run.workers
    box = box_of(opened.placement)
    pattern = stored_pattern(directory / WITNESS / DEVIATIONS_FILE, box)
    file = load_network(directory / WITNESS / MODEL_FILE)
    dataset = runtime.dataset
    file_output = run_original(
        file, dataset.inputs, dataset.constants, output=runtime.engine.output, threads=threads
    )
    return Witness(pattern, file_output, runtime.outputs(box.weights(pattern), threads=threads))


def derive(
    directory: Path, certificate: CertificateModel, opened: OpenedAnalysis, witness: Witness
) -> Derived:
    """Return the certificate that follows from what is at hand.

    Args:
        directory: Folder of the certificate.
        certificate: What is claimed; what a search found on its way is taken from it.
        opened: The analysis, opened again.
        witness: The worst chip, run again.

    Raises:
        CimrobustError: The witness contradicts a bound, or a file is corrupt.
    """
    table = replace(from_parquet(directory / TRIALS), note=_trials_note(certificate, opened))
    certification = bound(opened, witness.output)
    refusal, claimed = (
        (None if certification.refusal is None else str(certification.refusal)),
        certificate.certified.reason,
    )
    if lacks_memory(refusal) and refusal != claimed:
        raise OtherMemoryError(str(refusal))
    if claimed is not None and lacks_memory(
        claimed
    ):  # taken as stated, so that the bound alone is left unchecked
        certification = Certification(None, None, Refusal(claimed), {})
    search = _search(certificate, opened, witness)
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        devices = write_device_witness(Path(folder), opened.placement, witness.pattern)
    evidence = Evidence(
        network=opened.inspection.network,
        scan=opened.inspection.scan,
        placement=opened.placement,
        runtime=opened.runtime,
        trials=table,
        search=search,
        certification=certification,
        effects=_effects(certificate, opened),
        worst_output=witness.output
        if opened.runtime.converters is not None
        else witness.file_output,
        witness=_stated_files(certificate),
        devices=devices,
        settings=opened.asked.stated(),
        device_argument=str(opened.asked.subject.device),
        data_argument=str(opened.asked.subject.data),
        timings=certificate.timings,
        issued=opened.asked.settings.issued,
        policy_file=opened.asked.policy_file,
    )
    made = _with_claims(assemble(evidence, opened.asked.policy), certificate, opened, table)
    return Derived(
        made, per_sample.per_sample(certification, tolerance_fraction(opened.placement.profile))
    )


def derivation_checks(
    derived: CertificateModel, certificate: CertificateModel
) -> Iterator[ReplayCheck]:
    """Compare what was derived again with what is claimed, block by block.

    Args:
        derived: What `derive` returned.
        certificate: What is claimed.
    """
    for block in CertificateModel.model_fields:
        if block == "data" and has_other_description(derived.data, certificate.data):
            yield data_check("derived", derived, certificate)
        elif block not in NOT_DERIVED:
            values = getattr(derived, block), getattr(certificate, block)
            yield block_check(
                "derived",
                *values,
                certificate,
                block,
                fine="follows from model, data, profile, trials and witness",
            )


def certified_samples_check(directory: Path, derived: PerSample | None) -> ReplayCheck | None:
    """Compare what is stored of every certified sample with the bound, computed again.

    None where there is neither.

    Args:
        directory: Folder of the certificate.
        derived: What is proven of every sample, computed again.
    """
    path = directory / CERTIFIED
    if derived is None or not path.exists():
        missing = derived is not None or path.exists()
        return (
            ReplayCheck(
                "certified_again",
                False,
                f"{CERTIFIED} and the bound must both be there, or neither",
            )
            if missing
            else None
        )
    stored = per_sample.from_parquet(path)
    held = (
        np.array_equal(derived.certified, stored.certified)
        and np.array_equal(derived.tried, stored.tried)
        and np.array_equal(derived.largest, stored.largest, equal_nan=True)
    )
    return ReplayCheck(
        "certified_again", held, f"{len(stored.certified)} samples of {CERTIFIED}, bounded again"
    )


def _search(
    certificate: CertificateModel, opened: OpenedAnalysis, witness: Witness
) -> SearchResult:
    """Return the result of the search: scores from the witness, its course from the claim."""
    claimed, task = certificate.worst_found, opened.runtime.task
    engine_score = task.score(witness.output)
    file_score, note = confirm(
        opened.runtime,
        box_of(opened.placement),
        witness.pattern,
        engine_score,
        workers=opened.run.workers,
    )
    ran = [
        MemberResult(
            member.name,
            Score(member.score, member.correct, claimed.samples),
            member.seconds,
            member.passes,
            member.evaluations,
            member.note,
        )
        for member in claimed.members
    ]
    left_out = [MemberResult(row.name, None, 0.0, 0, 0, row.reason) for row in claimed.not_run]
    return SearchResult(
        score=file_score if opened.runtime.converters is None else engine_score,
        file_score=file_score,
        member=claimed.member,
        deviations=witness.pattern,
        members=(*ran, *left_out),
        has_twin=claimed.has_twin,
        twin_reason=claimed.twin_reason,
        warnings=claimed.warnings,
        effort=claimed.effort,
        seed=certificate.monte_carlo.seed,
        crafting_samples=claimed.crafting_samples,
        passes=sum(member.passes for member in claimed.members),
        evaluations=sum(member.evaluations for member in claimed.members),
        engine_score=engine_score,
        replay_note=note,
        curve=claimed.effort_curve,
    )


def _stated_files(certificate: CertificateModel) -> Mapping[str, str]:
    """Return the digests of the witness's files, which `file_checks` compares with those files."""
    safety = None if certificate.diagnostics is None else certificate.diagnostics.safety_class
    return {**certificate.worst_found.witness, **({} if safety is None else safety.witness)}


def _trials_note(certificate: CertificateModel, opened: OpenedAnalysis) -> str:
    """Return what is claimed of chips that a device scored; nothing where none was to do so.

    How many were confirmed is the claim's to say. That their scores are onnxruntime's is checked:
    trials that are drawn again are scored by it.
    """
    if opened.asked.settings.trials_on != "device":
        return ""
    return next((text for text in certificate.warnings if text.startswith(TRIALS_ON_DEVICE)), "")


def _effects(certificate: CertificateModel, opened: OpenedAnalysis) -> EffectTable:
    """Return the effects in turn; none where the memory of another machine did not reach for them.

    Raises:
        OtherMemoryError: That of this machine does not, and there they are.
    """
    reasons = [
        text.removeprefix(NO_EFFECTS).removesuffix(".")
        for text in certificate.warnings
        if text.startswith(NO_EFFECTS)
    ]
    if reasons and lacks_memory(reasons[0]):
        return EffectTable((), reasons[0])
    made = tabulate_effects(opened)
    if lacks_memory(made.reason):
        raise OtherMemoryError(made.reason)
    return made


def _with_claims(
    derived: CertificateModel, claimed: CertificateModel, opened: OpenedAnalysis, table: TrialTable
) -> CertificateModel:
    """Return a derived certificate completed from the claim and judged again.

    Only what a new run alone can derive is taken from the claim.
    """
    diagnostics = derived.diagnostics
    if claimed.diagnostics is not None and diagnostics is not None:
        diagnostics = claimed.diagnostics.model_copy(update={"effects": diagnostics.effects})
    drawn = derived.monte_carlo.model_copy(
        update={"rare": claimed.monte_carlo.rare, "rare_reason": claimed.monte_carlo.rare_reason}
    )
    whole = derived.model_copy(update={"diagnostics": diagnostics, "monte_carlo": drawn})
    return whole.model_copy(update={"verdict": judge(whole, opened.asked.policy, table)})
