"""The whole analysis, run again with the settings of a certificate: the one check that leaves nothing but clocks and names unchecked."""

from __future__ import annotations

from collections.abc import Iterator

from cimrobust.certificate.evidence import RunTimings
from cimrobust.certificate.models import CertificateModel
from cimrobust.pipeline.analysis import run_stages
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.stages import Run
from cimrobust.pipeline.writing import write_files
from cimrobust.review.check import ReplayCheck
from cimrobust.review.derivation import NOT_DERIVED, compare
from cimrobust.review.differences import named
from cimrobust.review.machine_check import is_same_machine


def rerun(run: Run) -> CertificateModel:
    """Do every stage of a run again; files go into the run's own folder.

    Args:
        run: The run, opened again.
    """
    clock = Clock()
    findings = run_stages(run, clock)
    return write_files(run, findings, RunTimings(run.settings.workers, clock.stages))


def rerun_checks(certificate: CertificateModel, made: CertificateModel) -> Iterator[ReplayCheck]:
    """Compare a certificate with that of the run that was made again, block by block.

    On another machine a search may take another course, so that differences refute nothing there.

    Args:
        certificate: What is claimed.
        made: What the run gave now.
    """
    is_exact = is_same_machine(certificate)
    for block in CertificateModel.model_fields:
        if block in NOT_DERIVED:
            continue
        wrong = list(compare(getattr(made, block), getattr(certificate, block), certificate, place=block))
        if not wrong:
            yield ReplayCheck(f"rerun {block}", True, f"the run made again gives the same '{block}'")
        elif is_exact:
            yield ReplayCheck(f"rerun {block}", False, f"the run made again gives other values of {named(wrong)}")
        else:
            yield ReplayCheck(f"rerun {block}", None, f"on this other machine the run gives other values of {named(wrong)}")


def rerun_problem(certificate: CertificateModel) -> str:
    """Return why a run cannot be made again from what is at hand; nothing where it can."""
    transfer = next((setting.value for setting in certificate.settings if setting.key == "transfer"), None)
    if transfer is not None:
        return f"the run used a witness of another network ({transfer}), which is not at hand"
    return ""
