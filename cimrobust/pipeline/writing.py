"""Writing what an analysis found: witness, trials, report and certificate, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.attack.diagnosis_protocol import Diagnosis
from cimrobust.certificate.assemble import assemble
from cimrobust.certificate.certificate_files import atomic_text, canonical_json, check_own
from cimrobust.certificate.evidence import Evidence
from cimrobust.certificate.manifest import remove_seal
from cimrobust.certificate.models import CertificateModel, Timings
from cimrobust.certificate.result_names import CERTIFICATE, CERTIFIED, REPORT, TRIALS, WITNESS
from cimrobust.certify import per_sample
from cimrobust.certify.bound_summary import Certification
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.engine.original_file import run_original
from cimrobust.errors import SelfCheckError
from cimrobust.files import sha256_of, staging_folder
from cimrobust.mapping.box import box_of
from cimrobust.mapping.pattern_file import write_pattern
from cimrobust.montecarlo.effect_costs import EffectTable
from cimrobust.montecarlo.failing import RareFailures
from cimrobust.montecarlo.trial_table import TrialTable, to_parquet
from cimrobust.onnx_io.load_network import load_network
from cimrobust.reliability.chip_file import CHIP_FILE, write_chip
from cimrobust.reliability.likely_chip import LikelySearch
from cimrobust.report.render import draw, render
from cimrobust.search.device_witness import DeviceCheck, write_device_witness
from cimrobust.search.witness import SAFETY_FILE, write_witness

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.data.decision import Score
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement
    from cimrobust.pipeline.clock import Clock
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis
    from cimrobust.search.search_results import SearchResult


@dataclass(frozen=True)
class Findings:
    """What the stages of an analysis found.

    Attributes:
        trials: Drawn chips.
        diagnosis: The worst chip found, and what explains it.
        certification: Certified bound, or why there is none.
        effects: Score with every effect added in turn, or why it is not there.
        rare: How likely a chip is that misses a score; None: not asked for.
        likely: Search for the most probable such chip; None: not asked for.
    """

    trials: TrialTable
    diagnosis: Diagnosis
    certification: Certification
    effects: EffectTable
    rare: RareFailures | None
    likely: LikelySearch | None

    @property
    def found(self) -> SearchResult:
        """The worst chip found."""
        return self.diagnosis.found


def write_files(opened: OpenedAnalysis, findings: Findings, clock: Clock) -> CertificateModel:
    """Write all files beside their final names, then move them there, certificate.json last.

    Returns:
        The certificate.

    Raises:
        SelfCheckError: The witness does not give the score that was reported.
    """
    out = opened.asked.out
    with staging_folder(out) as made:
        with clock.stage("writing"):
            certificate = _assembled(made, opened, findings)
            pictures = draw(certificate)
        # The report states the time too, so that what is left to be done can be in no stage.
        timings = Timings.of(opened.run.workers, clock.stages)
        certificate = certificate.model_copy(update={"timings": timings})
        check_own(certificate)
        atomic_text(made / REPORT, render(certificate, pictures=pictures))
        _move(made, out)
        atomic_text(out / CERTIFICATE, canonical_json(certificate))
    return certificate


def _assembled(made: Path, opened: OpenedAnalysis, findings: Findings) -> CertificateModel:
    """Write witness and tables to a folder, and put the certificate together, without its times."""
    devices = _write_witness(made / WITNESS, opened, findings)
    worst_output = _worst_output(made / WITNESS / "worst_case.onnx", opened, findings.found)
    to_parquet(findings.trials, made / TRIALS)
    proven = per_sample.per_sample(
        findings.certification, tolerance_fraction(opened.placement.profile)
    )
    if proven is not None:
        per_sample.to_parquet(proven, made / CERTIFIED)
    evidence = _evidence(
        made / WITNESS,
        opened,
        findings,
        devices=devices,
        worst_output=worst_output,
        timings=Timings.of(opened.run.workers, {}),
    )
    return assemble(evidence, opened.asked.policy)


def _write_witness(folder: Path, opened: OpenedAnalysis, findings: Findings) -> DeviceCheck:
    """Write the worst chip, device by device too, and the chips that other questions led to."""
    folder.mkdir()
    deviations = findings.found.deviations
    write_witness(folder, opened.runtime, box_of(opened.placement), deviations)
    if findings.likely is not None and findings.likely.chip is not None:
        write_chip(folder / CHIP_FILE, findings.likely)
    devices = write_device_witness(folder, opened.placement, deviations)
    _write_safety_witness(folder, opened.placement, findings.diagnosis)
    return devices


def _evidence(
    folder: Path,
    opened: OpenedAnalysis,
    findings: Findings,
    *,
    devices: DeviceCheck,
    worst_output: Shaped[np.ndarray, "samples *outputs"],
    timings: Timings,
) -> Evidence:
    """Return all that the certificate is made of; `folder` has the files of the witness."""
    chip = folder / CHIP_FILE
    return Evidence(
        network=opened.inspection.network,
        scan=opened.inspection.scan,
        placement=opened.placement,
        runtime=opened.runtime,
        trials=findings.trials,
        search=findings.found,
        certification=findings.certification,
        effects=findings.effects,
        worst_output=worst_output,
        witness={
            f"{WITNESS}/{path.name}": sha256_of(path)
            for path in sorted(folder.iterdir())
            if path != chip
        },
        devices=devices,
        settings=opened.asked.stated(),
        device_argument=str(opened.asked.subject.device),
        data_argument=str(opened.asked.subject.data),
        timings=timings,
        rare=findings.rare,
        diagnosis=findings.diagnosis,
        likely=findings.likely,
        likely_digest=sha256_of(chip) if chip.exists() else None,
        issued=opened.asked.settings.issued,
        policy_file=opened.asked.policy_file,
    )


def _move(made: Path, out: Path) -> None:
    """Move finished files to their final names.

    Of an older certificate that is there nothing stays that this one lacks.
    """
    (out / CERTIFICATE).unlink(missing_ok=True)
    remove_seal(out)
    (out / WITNESS).mkdir(exist_ok=True)
    (out / WITNESS / CHIP_FILE).unlink(missing_ok=True)
    (out / WITNESS / SAFETY_FILE).unlink(missing_ok=True)
    for path in sorted((made / WITNESS).iterdir()):
        path.replace(out / WITNESS / path.name)
    (out / CERTIFIED).unlink(missing_ok=True)
    for name in (TRIALS, REPORT, *([CERTIFIED] if (made / CERTIFIED).exists() else [])):
        (made / name).replace(out / name)


def _worst_output(
    path: Path, opened: OpenedAnalysis, found: SearchResult
) -> Shaped[np.ndarray, "samples *outputs"]:
    """Return the decision output of the worst chip on all samples.

    Of the witness file, or with converters of the kernel.

    Raises:
        SelfCheckError: The witness file, or the kernel, does not give the score reported.
    """
    runtime, threads = opened.runtime, opened.run.workers
    dataset = runtime.dataset
    output = run_original(
        load_network(path),
        dataset.inputs,
        dataset.constants,
        output=runtime.engine.output,
        threads=threads,
    )
    _self_check(runtime, found.file_score, output, "witness/worst_case.onnx")
    if runtime.converters is None:
        return output
    output = runtime.outputs(box_of(opened.placement).weights(found.deviations), threads=threads)
    _self_check(runtime, found.score, output, "crossbar kernel")
    return output


def _self_check(
    runtime: Runtime, reported: Score, output: Shaped[np.ndarray, "samples *outputs"], where: str
) -> None:
    """Raise SelfCheckError unless an output gives the reported score."""
    again = runtime.task.score(output)
    if again != reported:
        raise SelfCheckError(
            f"worst chip must score what was reported, {reported.value}, got {again.value}"
            f" ({where}); report this"
        )


def _write_safety_witness(folder: Path, placement: Placement, diagnosis: Diagnosis) -> None:
    """Write the pattern that is worst for the safety class, if there is one."""
    for outcome in diagnosis.outcomes:
        if outcome.name == "safety_class" and outcome.result is not None:
            write_pattern(folder / SAFETY_FILE, box_of(placement), outcome.result.deviations)
