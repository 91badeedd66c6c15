"""The whole replay of a sweep.

Its files, then model and data, then chips drawn, bounded and searched again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.result_names import SWEEP, SWEEP_REPORT
from cimrobust.data.fitted_task import make_task
from cimrobust.engine.original_file import run_original
from cimrobust.errors import InputRefusedError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.clock import Clock
from cimrobust.pipeline.sweep import sweep_opened
from cimrobust.report.sweep_page import render_sweep
from cimrobust.review.agreement import NOT_DERIVED, block_check
from cimrobust.review.at_the_reviewer import AtHand, Given, model_check, open_given
from cimrobust.review.folder_check import folder_check
from cimrobust.review.machine_check import is_same_machine, machine_check
from cimrobust.review.other_results import read_sweep
from cimrobust.review.page_check import page_check
from cimrobust.review.profile_check import profile_check
from cimrobust.review.record_checks import record_checks
from cimrobust.review.reopened_network import missing_for_rerun
from cimrobust.review.replay_check import ReplayCheck, guarded
from cimrobust.review.safe_check import safe_check
from cimrobust.review.score_check import data_checks
from cimrobust.review.second_search import much_worse
from cimrobust.review.sweep_again import Reopened, again_checks, reopen_sweep
from cimrobust.review.sweep_head import head_check
from cimrobust.review.sweep_numbers import sweep_number_checks
from cimrobust.review.sweep_witnesses import sweep_witness_checks, witness_folder
from cimrobust.search.witness import MODEL_FILE

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.review.depth import Depth

# Sweeps of these versions were made before folders had a manifest.
_WITHOUT_MANIFEST = frozenset({"1.0", "1.1", "1.2"})
_RTOL = 1e-6


def replay_sweep(directory: Path, at_hand: AtHand, depth: Depth) -> list[ReplayCheck]:
    """Derive the claims of a sweep again.

    Args:
        directory: Folder of the sweep.
        at_hand: What the reviewer has beside it; what needs something else is not checked.
        depth: How much is computed again.

    Raises:
        InputRefusedError: There is no sweep, or it does not follow the schema.
    """
    sweep = read_sweep(directory)
    checks = sweep_file_checks(directory, sweep)
    given = open_given(sweep, at_hand)
    checks += guarded("model_hash", lambda: [model_check(sweep, given)])
    checks += guarded(
        "device_profile", lambda: [profile_check(sweep, sweep.command, at_hand.device)]
    )
    checks += guarded("scores", lambda: list(_scores(directory, sweep, given)))
    checks += _computed_again(directory, sweep, given, at_hand, depth, checks)
    return checks


def sweep_file_checks(directory: Path, sweep: SweepModel) -> list[ReplayCheck]:
    """Derive again what follows from the files of a sweep alone.

    Args:
        directory: Folder of the sweep.
        sweep: The sweep.
    """
    needed = {
        SWEEP,
        SWEEP_REPORT,
        *(name for point in sweep.points for name in point.worst_found.witness),
    }
    may_lack = sweep.stated_version in _WITHOUT_MANIFEST
    checks = guarded("schema", lambda: list(record_checks(directory / SWEEP, sweep)))
    checks += guarded("machine", lambda: [machine_check(sweep)])
    checks += guarded("manifest", lambda: [folder_check(directory, needed, may_lack=may_lack)])
    checks += guarded("witnesses", lambda: list(sweep_witness_checks(directory, sweep)))
    checks += guarded("head", lambda: [head_check(sweep)])
    checks += guarded("numbers", lambda: list(sweep_number_checks(sweep)))
    checks += guarded("safe", lambda: [safe_check(sweep)])
    checks += guarded(
        "report",
        lambda: [
            page_check(directory / SWEEP_REPORT, sweep, sweep.tool, lambda: render_sweep(sweep))
        ],
    )
    return checks


def _scores(directory: Path, sweep: SweepModel, given: Given) -> Iterator[ReplayCheck]:
    """Score the network and every witness in plain onnxruntime."""
    if given.data is None:
        yield ReplayCheck("worst_found", None, "give --data to score the witnesses again")
        return
    stored = [point for point in sweep.points if point.worst_found.witness]
    witnesses = {
        point.tolerance: load_network(witness_folder(directory, point) / MODEL_FILE)
        for point in stored
    }
    network = given.network
    any_network = network if network is not None else next(iter(witnesses.values()), None)
    if any_network is None:
        yield ReplayCheck("worst_found", None, "give --model: the sweep stores no witnesses")
        return
    dataset = given.samples(sweep, any_network.inputs)
    yield from data_checks(sweep, given, dataset, any_network)
    missing = given.without_labels(sweep, dataset)
    if missing:
        yield ReplayCheck("worst_found", None, missing)
        return
    output = sweep.data.decision.output
    clean = (
        None
        if network is None
        else run_original(network, dataset.inputs, dataset.constants, output=output)
    )
    task = None if clean is None else make_task(dataset, clean)
    if task is None or clean is None:
        yield ReplayCheck("clean", None, "give --model to score it again")
    else:
        yield _score_check("clean", task.score(clean).value, sweep.clean.score)
    for point in stored:
        found = run_original(
            witnesses[point.tolerance], dataset.inputs, dataset.constants, output=output
        )
        score = (task or make_task(dataset, found)).score(found).value
        yield _score_check(
            f"worst_found at {100 * point.tolerance:.4g} %", score, point.worst_found.file_score
        )


def _score_check(name: str, score: float, claimed: float) -> ReplayCheck:
    return ReplayCheck(
        name,
        bool(np.isclose(score, claimed, rtol=_RTOL, atol=0)),
        f"score {score:.6g}, claimed {claimed:.6g}",
    )


def _computed_again(
    directory: Path,
    sweep: SweepModel,
    given: Given,
    at_hand: AtHand,
    depth: Depth,
    before: list[ReplayCheck],
) -> list[ReplayCheck]:
    """Open the sweep again and derive what follows.

    Nothing is derived from another network or other data.
    """
    other = [
        check.id
        for check in before
        if check.id in ("model_hash", "data_hash") and check.held is False
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
        missing = missing_for_rerun(sweep, given)
    except InputRefusedError as err:
        return [ReplayCheck("derived", False, str(err))]
    if missing:
        return [
            ReplayCheck(
                "derived",
                None,
                f"{missing} to derive every number again, draw chips again and search again",
            )
        ]
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        return guarded(
            "reopened",
            lambda: _of_run(
                directory, sweep, reopen_sweep(sweep, given, at_hand, Path(folder), depth), depth
            ),
        )


def _of_run(
    directory: Path, sweep: SweepModel, opened: Reopened, depth: Depth
) -> list[ReplayCheck]:
    checks = again_checks(directory, sweep, opened, depth)
    return checks + guarded("rerun", lambda: list(_rerun(sweep, opened, depth)))


def _rerun(sweep: SweepModel, opened: Reopened, depth: Depth) -> Iterator[ReplayCheck]:
    """Run the whole sweep again and compare everything but clocks."""
    if not depth.rerun:
        yield ReplayCheck(
            "rerun",
            None,
            "members of the search and safe tolerances are derived by a new run alone (--rerun)",
        )
        return
    made = sweep_opened(
        opened.asked,
        opened.inspection,
        opened.runtime,
        Clock(),
        for_workers=opened.for_workers,
    ).record
    exact, tame = is_same_machine(sweep), _is_tame(sweep, made, opened.runtime)
    for block in SweepModel.model_fields:
        if block in NOT_DERIVED:
            continue
        check = block_check(
            "rerun",
            getattr(made, block),
            getattr(sweep, block),
            sweep,
            block,
            fine="is what the run made again gives",
        )
        if check.held is False and not exact and not (block == "points" and tame):
            check = ReplayCheck(check.id, None, f"on this other machine: {check.detail}")
        yield check


def _is_tame(sweep: SweepModel, made: SweepModel, runtime: Runtime) -> bool:
    """Return whether a new run finds a much worse chip at any tolerance.

    Another machine does not explain that.
    """
    pairs = zip(sweep.points, made.points, strict=True)
    scores = [(claimed.worst_found.score, found.worst_found.score) for claimed, found in pairs]
    return any(
        much_worse(
            claimed,
            found,
            nominal=runtime.nominal.value,
            metric=sweep.metric,
            samples=sweep.clean.samples,
        )
        is True
        for claimed, found in scores
    )
