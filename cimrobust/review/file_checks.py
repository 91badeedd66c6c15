"""What follows from the files of a certificate alone.

The part of a replay that takes about a second, and that every gate runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from cimrobust.certificate.blocks.certified import largest_tolerance
from cimrobust.certificate.policy import Policy, stop_rule
from cimrobust.certificate.result_names import CERTIFICATE, CERTIFIED, TRIALS
from cimrobust.certify import per_sample
from cimrobust.device.load_profile import profile_of
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.montecarlo.stopping import Watch
from cimrobust.montecarlo.trial_table import TrialTable, from_parquet
from cimrobust.onnx_io.load_network import load_network
from cimrobust.review.chosen_diagnostics import diagnostics_check
from cimrobust.review.consistency import consistency_checks, trials_check
from cimrobust.review.converter_numbers import converters_check
from cimrobust.review.decision_counts import counts_check
from cimrobust.review.device_check import DEVICES, devices_hold
from cimrobust.review.diagnosed_numbers import diagnosed_check
from cimrobust.review.differences import named
from cimrobust.review.explained_numbers import effects_check, explained_check
from cimrobust.review.folder_check import folder_check
from cimrobust.review.interval_check import interval_check
from cimrobust.review.machine_stated import machine_stated
from cimrobust.review.rare_numbers import rare_check
from cimrobust.review.record_checks import record_checks
from cimrobust.review.replay_check import ReplayCheck, guarded
from cimrobust.review.replayed_settings import settings_check
from cimrobust.review.safety_files import check_safety_files
from cimrobust.review.scope_check import scope_check
from cimrobust.review.search_numbers import search_check
from cimrobust.review.self_checks import self_checks_check
from cimrobust.review.stated_item import item_check
from cimrobust.review.unbroken_proof import unbroken_check
from cimrobust.review.verdict_check import verdict_check
from cimrobust.review.witness_box import (
    box_problem,
    deviating_layers,
    left_out,
)
from cimrobust.review.witness_files import require_listed
from cimrobust.review.witness_layers import placed_problem, untold_scales, witness_layers
from cimrobust.review.worst_distance import distance_check

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.onnx_io.layers import CrossbarLayer
    from cimrobust.onnx_io.network import Network

    _Tensors: TypeAlias = dict[str, Shaped[np.ndarray, "..."]]

MODEL = "witness/worst_case.onnx"
#: Large tensors of the model, where one file does not hold them.
MODEL_DATA = f"{MODEL}.data"
_DEVIATIONS = "witness/deviations.safetensors"
# Versions of certificates that were made before folders had a manifest.
_WITHOUT_MANIFEST = frozenset({"1.0", "1.1", "1.2", "1.3", "1.4", "1.5"})


def file_checks(
    directory: Path,
    certificate: CertificateModel,
    *,
    check_machine: Callable[[CertificateModel], ReplayCheck] = machine_stated,
    read_trials: Callable[[], TrialTable] | None = None,
) -> list[ReplayCheck]:
    """Derive again what follows from the files of a certificate alone; takes about a second.

    Args:
        directory: Folder of the certificate.
        certificate: The certificate.
        check_machine: Looks at the machine that it was made on; only a replay compares it.
        read_trials: Reads the trials, so that the caller has the very table that was checked; None:
            they are read from the folder.
    """
    trials = read_trials or (lambda: from_parquet(directory / TRIALS))
    checks = guarded("schema", lambda: list(record_checks(directory / CERTIFICATE, certificate)))
    checks += guarded("machine", lambda: [check_machine(certificate)])
    checks += guarded("manifest", lambda: [_manifest(directory, certificate)])
    checks += guarded("witness_hashes", lambda: _hashes(directory, certificate))
    witness = cache(lambda: load_network(directory / MODEL))
    tensors = cache(lambda: _deviations(directory))
    checks += guarded("witness_in_box", lambda: _in_box(certificate, tensors, witness))
    checks += guarded(
        "witness_devices", lambda: [_devices(directory, certificate, tensors, witness)]
    )
    checks += guarded(
        "safety_class",
        lambda: [ReplayCheck(*check) for check in check_safety_files(directory, certificate)],
    )
    checks += guarded("trials", lambda: _trials(certificate, trials()))
    checks += guarded("numbers", lambda: list(consistency_checks(certificate)))
    checks += guarded("rare_numbers", lambda: list(rare_check(certificate)))
    checks += guarded("settings", lambda: [settings_check(certificate)])
    checks += guarded("item", lambda: [item_check(certificate)])
    checks += guarded("scope", lambda: [scope_check(certificate)])
    checks += guarded("decision_counts", lambda: [counts_check(certificate)])
    checks += guarded("search_numbers", lambda: [search_check(certificate)])
    checks += guarded("explained_numbers", lambda: [explained_check(certificate)])
    checks += guarded("diagnosed_numbers", lambda: [diagnosed_check(certificate)])
    checks += guarded("converter_numbers", lambda: list(converters_check(certificate)))
    checks += guarded("self_checks", lambda: [self_checks_check(certificate)])
    checks += guarded("diagnostics", lambda: [diagnostics_check(certificate)])
    checks += guarded("evaluation_set", lambda: [interval_check(certificate)])
    checks += guarded("certified_samples", lambda: _certified(directory, certificate))
    return checks


def _manifest(directory: Path, certificate: CertificateModel) -> ReplayCheck:
    needed = {TRIALS, CERTIFICATE, *certificate.worst_found.witness}
    return folder_check(directory, needed, may_lack=certificate.stated_version in _WITHOUT_MANIFEST)


def _hashes(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    checks = []
    for name, expected in certificate.worst_found.witness.items():
        if name not in (MODEL, MODEL_DATA, _DEVIATIONS, DEVICES):
            raise InputRefusedError(
                f"witness files must be {MODEL} (and {MODEL_DATA}), {_DEVIATIONS} and {DEVICES},"
                f" got '{name}'"
                " (worst_found.witness); do not trust it"
            )
        found = sha256_of(directory / name)
        checks.append(ReplayCheck(f"hash of {name}", found == expected, f"sha256 {found[:16]}..."))
    return checks


def _deviations(directory: Path) -> _Tensors:
    return read_pattern(directory / _DEVIATIONS, what="deviations of the witness")


def _devices(
    directory: Path,
    certificate: CertificateModel,
    deviations: Callable[[], _Tensors],
    witness: Callable[[], Network],
) -> ReplayCheck:
    if DEVICES not in certificate.worst_found.witness:
        return ReplayCheck(
            "witness_devices",
            None,
            f"the certificate has no {DEVICES}: large networks have none, nor had earlier versions",
        )
    parts = deviations()
    nominal = {
        key.removesuffix(".nominal"): array
        for key, array in parts.items()
        if key.endswith(".nominal")
    }
    held, detail = devices_hold(directory, certificate, witness().initializers, nominal)
    return ReplayCheck("witness_devices", held, detail)


def _in_box(
    certificate: CertificateModel,
    deviations: Callable[[], _Tensors],
    load: Callable[[], Network],
) -> list[ReplayCheck]:
    tensors, witness = deviations(), load()
    require_listed(witness, certificate.worst_found.witness, MODEL)
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    found = witness_layers(witness, profile)
    problem = _box_problem(certificate, tensors, witness, found)
    if problem:
        return [ReplayCheck("witness_in_box", False, problem)]
    fine = (
        f"{len(certificate.mapping.layers)} tensors: lo <= deviation <= hi, and nominal + deviation"
        " stored"
    )
    checks = [
        ReplayCheck("witness_in_box", True, fine),
        distance_check(certificate, tensors, found),
    ]
    untold = untold_scales(certificate.mapping.layers, profile, found)
    if untold:
        said = f"the files do not tell the scales, and so how wide the box is, of {named(untold)}"
        checks.append(ReplayCheck("layer_scales", None, f"{said}: replay with --model and --data"))
    return checks


def _box_problem(
    certificate: CertificateModel,
    tensors: _Tensors,
    witness: Network,
    found: Mapping[str, CrossbarLayer],
) -> str:
    """Return where witness, box and layers are not one another's; nothing if nowhere."""
    named = [layer.initializer for layer in certificate.mapping.layers]
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    for layer in certificate.mapping.layers:
        name = layer.initializer
        problem = box_problem(tensors, witness.initializers, name) or placed_problem(
            tensors, layer, profile, found.get(name)
        )
        if problem:
            return problem
        lo, hi = tensors[f"{name}.lo"], tensors[f"{name}.hi"]
        radius = max(float(hi.max(initial=0)), -float(lo.min(initial=0)))
        if not math.isclose(radius, layer.box_radius, rel_tol=1e-6, abs_tol=1e-300):
            return (
                f"the box of '{name}' has radius {radius:g}, the certificate says"
                f" {layer.box_radius:g}"
            )
    if deviating_layers(tensors) != set(named):
        return "the file of deviations is about other layers than those that the certificate names"
    missing = left_out(
        witness, profile, named, digital=[row.node for row in certificate.mapping.unmapped]
    )
    return (
        f"the witness stores {missing} in devices, the certificate does not name it"
        if missing
        else ""
    )


def _trials(certificate: CertificateModel, table: TrialTable) -> list[ReplayCheck]:
    return [
        trials_check(certificate, table),
        *_stopping(certificate, table),
        verdict_check(certificate, table),
        effects_check(certificate, table),
    ]


def _stopping(certificate: CertificateModel, table: TrialTable) -> list[ReplayCheck]:
    """Check that a run that may stop early stopped exactly when its rule said so.

    That is at the first trial at which the rule said so, and at no other.
    """
    claimed = certificate.monte_carlo.stopping
    if claimed is None or certificate.policy is None:
        return (
            []
            if not table.is_sequential and claimed is None
            else [ReplayCheck("stopping", False, "the trials and the certificate disagree")]
        )
    watch = Watch(
        stop_rule(
            Policy.model_validate(certificate.policy), higher_is_better=table.higher_is_better
        )
    )
    stops = [watch.stops_after(value) for value in table.value.tolist()]
    ends = stops[-1] or table.num_trials == table.max_trials
    outcomes = [target.outcome for target in claimed.targets] == list(watch.outcomes)
    held = ends and not any(stops[:-1]) and outcomes and claimed.max_trials == table.max_trials
    return [
        ReplayCheck(
            "stopping",
            held,
            f"{table.num_trials} of at most {table.max_trials} trials, {', '.join(watch.outcomes)}",
        )
    ]


def _certified(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    """Derive certified score and largest tolerances again from what is stated of every sample."""
    claimed = certificate.certified
    if claimed.correct is None or claimed.largest_tolerance is None:
        return []
    table = per_sample.from_parquet(directory / CERTIFIED)
    held = (int(table.certified.sum()), len(table.certified)) == (claimed.correct, claimed.samples)
    largest = claimed.largest_tolerance
    tolerance = claimed.curve[-1].tolerance_fraction
    again = largest_tolerance(table, tolerance, largest.steps_per_octave)
    return [
        ReplayCheck(
            "certified_samples",
            held,
            f"{int(table.certified.sum())} of {len(table.certified)} samples in {CERTIFIED}",
        ),
        ReplayCheck(
            "largest_tolerance",
            again == largest,
            f"{again.samples} samples, {again.uncertified} of them uncertified",
        ),
        unbroken_check(certificate, table),
    ]
