"""The whole replay of a certificate: its files, then model and data, then chips drawn and searched again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cimrobust.certificate.files import TRIALS, read_certificate
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.policy import read_policy
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.graph.network import Network
from cimrobust.input_file import FileKind, read_input
from cimrobust.montecarlo.table import from_parquet
from cimrobust.pipeline.stages import Run
from cimrobust.progress import NullProgress, Progress
from cimrobust.review.check import ReplayCheck, guarded
from cimrobust.review.derivation import OtherMemoryError, certified_samples_check, derivation_checks, derive, run_witness, witness_checks
from cimrobust.review.file_checks import file_checks
from cimrobust.review.given import Given, labels_checks, open_given
from cimrobust.review.mapping_check import layers_check
from cimrobust.review.probable_chip import probable_checks
from cimrobust.review.profile_check import profile_check
from cimrobust.review.redraw import redraw_check
from cimrobust.review.reopened import missing_for_rerun, reopen
from cimrobust.review.rerun import rerun, rerun_checks, rerun_problem
from cimrobust.review.scores import score_checks
from cimrobust.review.second_search import second_search_check

_MAX_REPORT = 2**30
#: Trials that a replay draws again where nobody says how many.
REDRAWN = 30


@dataclass(frozen=True)
class Depth:
    """How much of a certificate is computed again where model and data are at hand.

    Attributes:
        redraw: Trials to draw again.
        seed: The reviewer's seed: chooses the trials, and starts the search.
        search: Effort of a search of the reviewer's own; None: none.
        rerun: Run the whole analysis again.
        workers: Threads; no result depends on it.
        progress: Told how far the work is.
    """

    redraw: int = REDRAWN
    seed: int = 0
    search: str | None = None
    rerun: bool = False
    workers: int = 1
    progress: Progress = field(default_factory=NullProgress)


def replay_certificate(
    directory: Path,
    *,
    model: Path | None,
    data: str | None,
    labels_of: Path | None,
    calibration: str | None,
    device: str | None,
    policy: Path | None,
    depth: Depth,
    render: Callable[[CertificateModel], str],
    html: str,
) -> list[ReplayCheck]:
    """Derive the claims of a certificate again.

    Args:
        directory: Folder of the certificate.
        model: The certified network; None: what needs it is not checked.
        data: The evaluation data; None: scores are not checked.
        labels_of: The network whose decisions are the labels; None: scores by them are not checked.
        calibration: Data that converters took their ranges from, where they were given apart.
        device: The device profile; None: the shipped one of the name stated, where there is one.
        policy: The policy file; None: its digest is not compared.
        depth: How much is computed again.
        render: Makes the report of a certificate.
        html: Name of the report's file.

    Raises:
        InputRefusedError: There is no certificate, or it does not follow the schema.
    """
    certificate = read_certificate(directory)
    checks = file_checks(directory, certificate)
    checks += guarded("report", lambda: [_report(directory / html, certificate, render)])
    given = open_given(certificate, model=model, data=data, labels_of=labels_of, calibration=calibration)
    checks += guarded("model_hash", lambda: [_model_hash(given.network, certificate)])
    checks += guarded("device_profile", lambda: [profile_check(certificate, device)])
    checks += guarded("policy_file", lambda: [_policy_file(certificate, policy)])
    checks += guarded("layers", lambda: [layers_check(certificate, given.network)])
    checks += guarded("labels_hash", lambda: list(labels_checks(certificate, given, is_asked=labels_of is not None)))
    checks += guarded("most_probable", lambda: list(probable_checks(directory, certificate, given)))
    checks += guarded("scores", lambda: list(score_checks(directory, certificate, given)))
    checks += _computed_again(directory, certificate, given, depth, checks)
    return checks


def _computed_again(
    directory: Path, certificate: CertificateModel, given: Given, depth: Depth, before: list[ReplayCheck]
) -> list[ReplayCheck]:
    """Open the run again and derive what follows; nothing is derived from another network or other data."""
    other = [check.id for check in before if check.id in ("model_hash", "data_hash", "labels_hash", "layers") and check.held is False]
    if other:
        return [ReplayCheck("derived", None, f"not derived: {', '.join(other)} does not hold, so other numbers would follow")]
    try:
        missing = missing_for_rerun(certificate, given)
    except InputRefusedError as err:
        return [ReplayCheck("derived", False, str(err))]
    if missing:
        return [ReplayCheck("derived", None, f"{missing} to derive every number again, draw trials again and search again")]
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        opened: list[Run] = []
        checks = guarded("reopened", lambda: list(_opened(certificate, given, depth, Path(folder), opened)))
        for run in opened:
            checks += _of_run(directory, certificate, run, depth)
    return checks


def _opened(certificate: CertificateModel, given: Given, depth: Depth, folder: Path, opened: list[Run]) -> Iterator[ReplayCheck]:
    run = reopen(certificate, given, out=folder, workers=depth.workers, progress=depth.progress)
    opened.append(run)
    yield ReplayCheck("reopened", True, "network, devices and samples go together and pass every self-check of a run")


def _of_run(directory: Path, certificate: CertificateModel, run: Run, depth: Depth) -> list[ReplayCheck]:
    checks = guarded("witness_nominal", lambda: list(witness_checks(directory, run)))
    checks += guarded("derived", lambda: list(_derived(directory, certificate, run)))
    checks += guarded("redrawn_trials", lambda: [_redrawn(directory, certificate, run, depth)])
    if depth.search is not None:
        effort = depth.search
        checks += guarded("second_search", lambda: [second_search_check(certificate, run, effort=effort, seed=depth.seed)])
    else:
        checks.append(ReplayCheck("second_search", None, "whether a search finds a worse chip is not tested (--search quick)"))
    problem = (
        rerun_problem(certificate) if depth.rerun else "members, diagnostics and rare failures are derived by a new run alone (--rerun)"
    )
    if problem:
        checks.append(ReplayCheck("rerun", None, problem))
    else:
        checks += guarded("rerun", lambda: list(rerun_checks(certificate, rerun(run))))
    return checks


def _derived(directory: Path, certificate: CertificateModel, run: Run) -> Iterator[ReplayCheck]:
    try:
        derived = derive(directory, certificate, run, run_witness(directory, run))
    except OtherMemoryError as err:
        yield ReplayCheck("derived", None, str(err))
        return
    yield from derivation_checks(derived.certificate, certificate)
    stored = certified_samples_check(directory, derived.proven)
    if stored is not None:
        yield stored


def _redrawn(directory: Path, certificate: CertificateModel, run: Run, depth: Depth) -> ReplayCheck:
    return redraw_check(certificate, from_parquet(directory / TRIALS), run, count=depth.redraw, seed=depth.seed)


def _report(path: Path, certificate: CertificateModel, render: Callable[[CertificateModel], str]) -> ReplayCheck:
    if certificate.stated_version != certificate.VERSION:
        made = f"the page was made by cimrobust {certificate.tool.version} of schema {certificate.stated_version}"
        return ReplayCheck("report", None, f"{made}; `cimrobust report` makes it again in today's form")
    expected = render(certificate)
    content = read_input(path, FileKind("report", _MAX_REPORT, missing=InputRefusedError))
    return ReplayCheck("report", content == expected.encode(), f"{path.name} is what certificate.json renders to")


def _policy_file(certificate: CertificateModel, policy: Path | None) -> ReplayCheck:
    if policy is None:
        missing = certificate.policy_sha256 is not None
        return ReplayCheck("policy_file", None if missing else True, "give --policy to compare its digest" if missing else "there is none")
    digest = sha256_of(policy)
    same = digest == certificate.policy_sha256 and read_policy(policy).to_dict() == certificate.policy
    return ReplayCheck("policy_file", same, f"{policy.name}: sha256 {digest[:16]}...")


def _model_hash(network: Network | None, certificate: CertificateModel) -> ReplayCheck:
    if network is None:
        return ReplayCheck("model_hash", None, "give --model to compare its digest")
    claimed = {entry.sha256 for entry in certificate.model.files}
    found = {file.sha256 for file in network.files}
    return ReplayCheck("model_hash", found == claimed, f"{network.path.name}: {len(found)} files compared")
