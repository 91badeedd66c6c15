"""What is done with finished certificates: gate, replay, report."""

from __future__ import annotations

import secrets
from pathlib import Path

from cimrobust.certificate.files import REPORT, TRIALS, WITNESS, atomic_text, read_certificate
from cimrobust.certificate.gate import GateResult, write_junit
from cimrobust.certificate.policy import read_policy
from cimrobust.certificate.verdict import judge
from cimrobust.input_file import refusing_what_fails
from cimrobust.montecarlo.table import from_parquet
from cimrobust.pipeline.arguments import available_processors, check_counts, check_effort
from cimrobust.progress import NullProgress, Progress
from cimrobust.report.render import render
from cimrobust.review.certificate_replay import REDRAWN, Depth, replay_certificate
from cimrobust.review.check import ReplayCheck

_OURS = "certificate must be one that `cimrobust analyze` wrote"
_HINT = "it follows the schema but contradicts itself; make it again"


def gate(directory: str | Path, *, policy: str | Path, junit: str | Path | None = None) -> GateResult:
    """Judge a certificate against a policy.

    Args:
        directory: Folder of the certificate.
        policy: Policy file.
        junit: Write the result as JUnit XML there too.

    Raises:
        UsageError: The policy is wrong.
        InputRefusedError: The certificate or its trials are missing or corrupt.
    """
    required = read_policy(Path(policy))
    certificate = read_certificate(Path(directory))
    trials = from_parquet(Path(directory) / TRIALS)
    with refusing_what_fails(_OURS, directory, hint=_HINT):
        verdict = judge(certificate, required, trials)
    result = GateResult(verdict, witness=f"{directory}/{WITNESS}/worst_case.onnx")
    if junit is not None:
        write_junit(result, Path(junit), model=certificate.model.name)
    return result


def replay(
    directory: str | Path,
    *,
    model: str | Path | None = None,
    data: str | Path | None = None,
    labels_of: str | Path | None = None,
    calibration: str | Path | None = None,
    device: str | Path | None = None,
    redraw: int = REDRAWN,
    reviewer_seed: int | None = None,
    search: str | None = None,
    rerun: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[ReplayCheck]:
    """Derive the claims of a certificate again: from its files; with model and data, every number that follows from them.

    Args:
        directory: Folder of the certificate.
        model: The certified network; None: what needs it is not checked.
        data: The evaluation data; None: scores are not checked.
        labels_of: The network whose decisions are the labels, where the certificate names one; None: scores by them are not checked.
        calibration: Data that converters took their ranges from, where the certificate names some.
        device: The device profile, by name or file; None: the shipped one of the name that the certificate states, where there is one.
        redraw: Trials to draw again, chosen by `reviewer_seed`; 0: none.
        reviewer_seed: Seed of what the reviewer draws and searches; None: one that nobody knows beforehand, named in the results.
        search: Effort of a search of the reviewer's own, ``quick``, ``standard`` or ``thorough``; None: none.
        rerun: Run the whole analysis again and compare every number.
        workers: Threads; no result depends on it. None: all processors.
        progress: Told how far the work is.

    Returns:
        One check a claim.

    Raises:
        InputRefusedError: There is no certificate, or it does not follow the schema.
        UsageError: An argument is wrong.
    """
    check_counts(redraw=redraw, least=0)
    check_counts(reviewer_seed=reviewer_seed, least=0)
    check_counts(workers=workers)
    if search is not None:
        check_effort(search)
    depth = Depth(
        redraw=redraw,
        seed=secrets.randbits(32) if reviewer_seed is None else reviewer_seed,
        search=search,
        rerun=rerun,
        workers=workers or available_processors(),
        progress=progress or NullProgress(),
    )
    return replay_certificate(
        Path(directory),
        model=None if model is None else Path(model),
        data=None if data is None else str(data),
        labels_of=None if labels_of is None else Path(labels_of),
        calibration=None if calibration is None else str(calibration),
        device=None if device is None else str(device),
        depth=depth,
        render=render,
        html=REPORT,
    )


def rewrite_report(directory: str | Path) -> Path:
    """Write the HTML of a certificate again from its JSON; returns its path."""
    path = Path(directory) / REPORT
    certificate = read_certificate(Path(directory))
    with refusing_what_fails(_OURS, directory, hint=_HINT):
        html = render(certificate)
    atomic_text(path, html)
    return path
