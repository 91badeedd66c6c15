"""The worst chips of a sweep, tolerance by tolerance.

Digests, intervals, weights, and boxes that lie in each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.certificate.result_names import WITNESS
from cimrobust.device.load_profile import profile_of
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.onnx_io.load_network import load_network
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.witness_box import box_problem, deviating_layers, left_out
from cimrobust.review.witness_files import require_listed
from cimrobust.search.witness import DEVIATIONS_FILE, MODEL_FILE

if TYPE_CHECKING:
    from cimrobust.certificate.models.swept import SweepModel, SweptPoint


def witness_folder(directory: Path, point: SweptPoint) -> Path:
    """Return the folder of the witness of a tolerance."""
    return directory / WITNESS / repr(point.tolerance)


def sweep_witness_checks(directory: Path, sweep: SweepModel) -> Iterator[ReplayCheck]:
    """Check the witness of every tolerance, as far as its files tell.

    Args:
        directory: Folder of the sweep.
        sweep: The sweep.

    Raises:
        InputRefusedError: A file is missing or corrupt, or has another name.
    """
    if not any(point.worst_found.witness for point in sweep.points):
        yield ReplayCheck(
            "witnesses",
            None,
            "the sweep stores no witnesses (sweep --witnesses): its worst scores follow from a new"
            " run alone",
        )
        return
    before: dict[str, Shaped[np.ndarray, "..."]] = {}
    for point in sweep.points:
        shown = f"{100 * point.tolerance:.4g} %"
        yield from _hashes(directory, point)
        yield ReplayCheck(f"witness at {shown}", *_chip(directory, sweep, point, before))


def _hashes(directory: Path, point: SweptPoint) -> Iterator[ReplayCheck]:
    place = f"{WITNESS}/{point.tolerance!r}"
    wanted = {f"{place}/{name}" for name in (MODEL_FILE, DEVIATIONS_FILE)}
    if set(point.worst_found.witness) - {f"{place}/{MODEL_FILE}.data"} != wanted:
        raise InputRefusedError(
            f"witness files must be {MODEL_FILE} and {DEVIATIONS_FILE} in {place}, got others"
            " (sweep.json, points.worst_found.witness); do not trust it"
        )
    for name, claimed in point.worst_found.witness.items():
        found = sha256_of(directory / name)
        yield ReplayCheck(f"hash of {name}", found == claimed, f"sha256 {found[:16]}...")


def _chip(
    directory: Path,
    sweep: SweepModel,
    point: SweptPoint,
    before: dict[str, Shaped[np.ndarray, "..."]],
) -> tuple[bool, str]:
    """Check one witness.

    `before` holds what is stated at the next smaller tolerance, and then what is stated here.
    """
    folder = witness_folder(directory, point)
    tensors, witness = (
        read_pattern(folder / DEVIATIONS_FILE, what="deviations of the witness"),
        load_network(folder / MODEL_FILE),
    )
    require_listed(
        witness,
        point.worst_found.witness,
        f"{WITNESS}/{point.tolerance!r}/{MODEL_FILE}",
    )
    names = sorted(deviating_layers(tensors))
    for name in names:
        problem = box_problem(tensors, witness.initializers, name)
        if problem:
            return False, problem
    profile = with_tolerance(profile_of(sweep.device.profile, shown="sweep.json"), point.tolerance)
    missing = left_out(witness, profile, names)
    if missing:
        return False, f"the witness stores {missing} in devices, and has no deviations of it"
    if sum(tensors[f"{name}.nominal"].size for name in names) != sweep.model.mapped_weights:
        return False, "it has other numbers of weights than the sweep"
    if before and before.keys() != tensors.keys():
        return False, "it has other layers than that of a smaller tolerance"
    for name in names if before else ():
        if not np.array_equal(before[f"{name}.nominal"], tensors[f"{name}.nominal"]):
            return False, f"the nominal weights of '{name}' are not those of a smaller tolerance"
        if (tensors[f"{name}.lo"] > before[f"{name}.lo"]).any() or (
            tensors[f"{name}.hi"] < before[f"{name}.hi"]
        ).any():
            return False, f"the intervals of '{name}' do not hold those of a smaller tolerance"
    before.clear()
    before.update(tensors)
    return True, f"{len(names)} tensors: lo <= deviation <= hi, and nominal + deviation stored"
