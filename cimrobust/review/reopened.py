"""The run of a certificate, opened again.

Network, devices, samples and settings as the certificate states them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.named_digest import NamedDigest
from cimrobust.certificate.policy import Policy
from cimrobust.device.load_profile import profile_of
from cimrobust.diagnose.diagnostic_names import chosen
from cimrobust.engine.subject import Subject
from cimrobust.input_file import printable
from cimrobust.mapping.decided import stored_layers
from cimrobust.pipeline.examined import open_examined
from cimrobust.pipeline.inspection import Inspection
from cimrobust.pipeline.opened_analysis import OpenedAnalysis
from cimrobust.pipeline.resolved_analysis import DEFAULT_TRIALS, ResolvedAnalysis
from cimrobust.pipeline.stated_settings import restored
from cimrobust.review.reviewers_workers import recipe_of_result
from cimrobust.review.stated_command import named_arguments
from cimrobust.review.stated_samples import calibration_samples, stated_samples
from cimrobust.run import Run
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.commands import ANALYZE
from cimrobust.settings.gathered import Gathered
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.engine.open import Runtime
    from cimrobust.onnx_io.network import Network
    from cimrobust.review.at_the_reviewer import AtHand, Given
    from cimrobust.review.depth import Depth
    from cimrobust.review.evaluated import Evaluated

_SettingValue = int | float | str | bool | None


def reopen(
    certificate: CertificateModel, given: Given, at_hand: AtHand, *, out: Path, depth: Depth
) -> OpenedAnalysis:
    """Open the run of a certificate again.

    Args:
        certificate: The certificate.
        given: What is at hand: the network, and samples with their labels.
        at_hand: The same, not loaded: what workers open.
        out: Folder that stages may write into.
        depth: Says how to compute; seed and effort are the certificate's.

    Raises:
        CimrobustError: Network, devices and samples do not go together, or the network fails a
            check of its own.
    """
    inspection, runtime = reopen_network(certificate, given, workers=depth.run.workers)
    return OpenedAnalysis(
        _asked(certificate, given, out=out, depth=depth),
        inspection,
        Subject(runtime, inspection.placement),
        for_workers=partial(recipe_of_result, certificate, at_hand),
    )


def reopen_network(result: Evaluated, given: Given, *, workers: int) -> tuple[Inspection, Runtime]:
    """Open the network of a certificate or a sweep again, on its devices and samples.

    Arguments and errors as for `reopen`.
    """
    network = given.network
    assert network is not None
    inspection = _inspection(result, network)
    dataset = stated_samples(result, given, network)
    calibrating = (
        calibration_samples(result, given, network)
        if inspection.placement.profile.needs_kernel
        else None
    )
    return inspection, open_examined(inspection, dataset, calibration=calibrating, workers=workers)


def missing_for_rerun(certificate: Evaluated, given: Given) -> str:
    """Return what is missing to open a run again; nothing where it can be."""
    if given.network is None or given.data is None:
        return "give --model and --data"
    needs_ranges = profile_of(certificate.device.profile, shown="certificate.json").needs_kernel
    calibration = _stated(certificate).get("calibration")
    if needs_ranges and calibration is not None and given.calibration is None:
        return (
            f"give --calibration: converters took their ranges from {printable(calibration)[:100]}"
        )
    return given.without_labels(certificate, given.samples(certificate, given.network.inputs))


def _inspection(certificate: Evaluated, network: Network) -> Inspection:
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    stored, scan = stored_layers(network, profile)
    return Inspection(stored, scan, profile)


def _stated(certificate: Evaluated) -> dict[str, _SettingValue]:
    return {setting.key: setting.value for setting in certificate.settings}


def _asked(
    certificate: CertificateModel, given: Given, *, out: Path, depth: Depth
) -> ResolvedAnalysis:
    """Return the settings that the numbers of a certificate imply, or else those that it states."""
    run = depth.run
    drawn = certificate.monte_carlo
    policy = None if certificate.policy is None else Policy.model_validate(certificate.policy)
    effort = certificate.worst_found.effort
    most = drawn.trials if drawn.stopping is None else drawn.stopping.max_trials
    may_be_default = drawn.stopping is not None or most == DEFAULT_TRIALS[effort]
    is_default = may_be_default and any(
        setting.key == "trials" and setting.is_default for setting in certificate.settings
    )
    named = named_arguments(certificate.reproduce.command)
    values = Gathered(
        ANALYZE,
        restored(ANALYZE, certificate.settings)
        | {
            "device": named.get("--device", ""),
            "trials": None if is_default else most,
            "stop_early": drawn.stopping is not None,
            "rare_below": None if drawn.rare is None else drawn.rare.threshold,
            "issued": certificate.issued,
            "seed": drawn.seed,
            "effort": effort,
            "workers": run.workers,
            "progress": run.progress,
        },
    )
    settings = values.part(AnalysisSettings)
    return ResolvedAnalysis(
        subject=values.part(
            SubjectSettings,
            model=str(given.network.path) if given.network is not None else "",
            data=named.get("--data", str(given.data)),
        ),
        settings=settings,
        run=values.part(Run),
        out=out,
        num_trials=most,
        policy=policy,
        policy_file=_policy_file(certificate),
        diagnostics=chosen(settings.diagnostics, effort=effort),
        safety_class=settings.safety_class,
        cluster=depth.cluster,
    )


def _policy_file(certificate: CertificateModel) -> NamedDigest | None:
    name, digest = certificate.policy_file, certificate.policy_sha256
    return None if name is None or digest is None else NamedDigest(name, digest)
