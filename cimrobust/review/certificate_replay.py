"""The whole replay of a certificate.

Its files, then model and data, then chips drawn and searched again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.certificate.policy import read_policy
from cimrobust.certificate.result_names import REPORT, TRIALS
from cimrobust.certify.refusal import lacks_memory
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.montecarlo.trial_table import from_parquet
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.stages import run_stages
from cimrobust.pipeline.writing import write_files
from cimrobust.report.render import render
from cimrobust.review.at_the_reviewer import AtHand, Given, labels_checks, model_check, open_given
from cimrobust.review.derivation import (
    OtherMemoryError,
    certified_samples_check,
    derivation_checks,
    derive,
    run_witness,
    witness_checks,
)
from cimrobust.review.file_checks import file_checks
from cimrobust.review.machine_check import machine_check
from cimrobust.review.mapping_check import layers_check
from cimrobust.review.page_check import page_check
from cimrobust.review.probable_chip import probable_checks
from cimrobust.review.profile_check import profile_check
from cimrobust.review.redraw import redraw_check
from cimrobust.review.reopened import reopen
from cimrobust.review.reopened_network import missing_for_rerun
from cimrobust.review.replay_check import ReplayCheck, guarded
from cimrobust.review.rerun import rerun_checks, rerun_problem
from cimrobust.review.score_check import score_checks
from cimrobust.review.second_search import second_search_check

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis
    from cimrobust.review.depth import Depth


def replay_certificate(directory: Path, at_hand: AtHand, depth: Depth) -> list[ReplayCheck]:
    """Derive the claims of a certificate again.

    Args:
        directory: Folder of the certificate.
        at_hand: What the reviewer has beside it; what needs something else is not checked.
        depth: How much is computed again.

    Raises:
        InputRefusedError: There is no certificate, or it does not follow the schema.
    """
    certificate = read_certificate(directory)
    checks = file_checks(directory, certificate, check_machine=machine_check)
    checks += guarded(
        "report",
        lambda: [
            page_check(
                directory / REPORT, certificate, certificate.tool, lambda: render(certificate)
            )
        ],
    )
    given = open_given(certificate, at_hand)
    command = certificate.reproduce.command
    checks += guarded("model_hash", lambda: [model_check(certificate, given)])
    checks += guarded(
        "device_profile", lambda: [profile_check(certificate, command, at_hand.device)]
    )
    checks += guarded("policy_file", lambda: [_policy_file(certificate, at_hand.policy)])
    checks += guarded("layers", lambda: [layers_check(certificate, given.network)])
    is_asked = at_hand.labels_of is not None
    checks += guarded(
        "labels_hash", lambda: list(labels_checks(certificate, given, is_asked=is_asked))
    )
    checks += guarded("most_probable", lambda: list(probable_checks(directory, certificate, given)))
    checks += guarded("scores", lambda: list(score_checks(directory, certificate, given)))
    checks += _computed_again(directory, certificate, given, at_hand, depth, checks)
    return checks


def _computed_again(
    directory: Path,
    certificate: CertificateModel,
    given: Given,
    at_hand: AtHand,
    depth: Depth,
    before: list[ReplayCheck],
) -> list[ReplayCheck]:
    """Open the run again and derive what follows.

    Nothing is derived from another network or other data.
    """
    other = [
        check.id
        for check in before
        if check.id in ("model_hash", "data_hash", "labels_hash", "layers") and check.held is False
    ]
    if other:
        return [
            ReplayCheck(
                "derived",
                None,
                f"not derived: {', '.join(other)} does not hold, so other numbers would follow",
            )
        ]
    try:
        missing = missing_for_rerun(certificate, given)
    except InputRefusedError as err:
        return [ReplayCheck("derived", False, str(err))]
    if missing:
        return [
            ReplayCheck(
                "derived",
                None,
                f"{missing} to derive every number again, draw trials again and search again",
            )
        ]
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        found: list[OpenedAnalysis] = []
        checks = guarded(
            "reopened",
            lambda: list(_opened(certificate, given, at_hand, depth, Path(folder), found)),
        )
        for opened in found:
            checks += _of_run(directory, certificate, opened, given, depth)
    return checks


def _opened(
    certificate: CertificateModel,
    given: Given,
    at_hand: AtHand,
    depth: Depth,
    folder: Path,
    found: list[OpenedAnalysis],
) -> Iterator[ReplayCheck]:
    found.append(reopen(certificate, given, at_hand, out=folder, depth=depth))
    yield ReplayCheck(
        "reopened",
        True,
        "network, devices and samples go together and pass every self-check of a run",
    )


def _of_run(
    directory: Path,
    certificate: CertificateModel,
    opened: OpenedAnalysis,
    given: Given,
    depth: Depth,
) -> list[ReplayCheck]:
    checks = guarded("witness_nominal", lambda: list(witness_checks(directory, opened)))
    checks += guarded("derived", lambda: list(_derived(directory, certificate, opened)))
    checks += guarded("redrawn_trials", lambda: [_redrawn(directory, certificate, opened, depth)])
    problem = rerun_problem(certificate, given)
    # A run that cannot be made again is searched again with no less effort: whoever states such a
    # run must not be looked at less closely.
    effort = (
        certificate.worst_found.effort
        if depth.rerun and problem and depth.search is None
        else depth.search
    )
    if effort is not None:
        checks += guarded(
            "second_search",
            lambda: [second_search_check(certificate, opened, effort=effort, seed=depth.run.seed)],
        )
    else:
        checks.append(
            ReplayCheck(
                "second_search",
                None,
                "whether a search finds a worse chip is not tested (--search quick)",
            )
        )
    if not depth.rerun:
        problem = "members, diagnostics and rare failures are derived by a new run alone (--rerun)"
    if problem:
        checks.append(ReplayCheck("rerun", None, problem))
    else:
        checks += guarded(
            "rerun",
            lambda: list(
                rerun_checks(certificate, rerun(opened, transfer=_transfer(certificate, given)))
            ),
        )
    return checks


def rerun(opened: OpenedAnalysis, *, transfer: Path | None = None) -> CertificateModel:
    """Do every stage of a run again; files go into the run's own folder.

    Args:
        opened: The analysis, opened again.
        transfer: Folder of the certificate whose witness the run knew; None: it knew none.
    """
    clock = Clock()
    settings = replace(opened.asked.settings, transfer=transfer)
    again = replace(opened, asked=replace(opened.asked, settings=settings))
    findings = run_stages(again, clock)
    return write_files(opened, findings, clock)


def _transfer(certificate: CertificateModel, given: Given) -> Path | None:
    used = any(
        setting.key == "transfer" and setting.value is not None for setting in certificate.settings
    )
    return given.transfer if used else None


def _derived(
    directory: Path, certificate: CertificateModel, opened: OpenedAnalysis
) -> Iterator[ReplayCheck]:
    try:
        derived = derive(directory, certificate, opened, run_witness(directory, opened))
    except OtherMemoryError as err:
        yield ReplayCheck("derived", None, str(err))
        return
    yield from derivation_checks(derived.certificate, certificate)
    if lacks_memory(certificate.certified.reason):
        yield ReplayCheck(
            "certified_memory",
            None,
            f"where it was made {certificate.certified.reason}: whether there is a bound was not"
            " checked",
        )
    stored = certified_samples_check(directory, derived.proven)
    if stored is not None:
        yield stored


def _redrawn(
    directory: Path, certificate: CertificateModel, opened: OpenedAnalysis, depth: Depth
) -> ReplayCheck:
    return redraw_check(
        certificate,
        from_parquet(directory / TRIALS),
        opened,
        count=depth.redraw,
        seed=depth.run.seed,
    )


def _policy_file(certificate: CertificateModel, policy: Path | None) -> ReplayCheck:
    if policy is None:
        missing = certificate.policy_sha256 is not None
        return ReplayCheck(
            "policy_file",
            None if missing else True,
            "give --policy to compare its digest" if missing else "there is none",
        )
    digest = sha256_of(policy)
    same = (
        digest == certificate.policy_sha256 and read_policy(policy).to_dict() == certificate.policy
    )
    return ReplayCheck("policy_file", same, f"{policy.name}: sha256 {digest[:16]}...")
