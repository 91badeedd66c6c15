"""What follows from the files of a certificate alone: the part of a replay that takes about a second, and that every gate runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cimrobust import __version__
from cimrobust.certificate.blocks.certified import largest_tolerance
from cimrobust.certificate.blocks.samples import interval_of
from cimrobust.certificate.files import CERTIFICATE, CERTIFIED, TRIALS
from cimrobust.certificate.manifest import MANIFEST, manifest_problems, read_manifest
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.policy import Policy, stop_rule
from cimrobust.certificate.verdict import judge
from cimrobust.certify import per_sample
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.graph.load import load_network
from cimrobust.montecarlo.stopping import Watch
from cimrobust.montecarlo.table import TrialTable, from_parquet
from cimrobust.review.check import ReplayCheck, guarded
from cimrobust.review.chosen_diagnostics import diagnostics_check
from cimrobust.review.consistency import consistency_checks, trials_check
from cimrobust.review.device_check import DEVICES, devices_hold
from cimrobust.review.differences import Exactness, differences
from cimrobust.review.machine_check import machine_check
from cimrobust.review.safety_witness import check_safety_files
from cimrobust.tensor_file import read_tensors

MODEL = "witness/worst_case.onnx"
_DEVIATIONS = "witness/deviations.safetensors"
# Versions of certificates that were made before folders had a manifest.
_WITHOUT_MANIFEST = frozenset({"1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5"})


def file_checks(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    """Derive again what follows from the files of a certificate alone; takes about a second."""
    checks = [ReplayCheck("schema", True, f"certificate.json follows schema {certificate.stated_version}")]
    checks.append(machine_check(certificate))
    checks += guarded("manifest", lambda: [_manifest(directory, certificate)])
    checks += guarded("witness_hashes", lambda: _hashes(directory, certificate))
    checks += guarded("witness_in_box", lambda: [_in_box(directory, certificate)])
    checks += guarded("witness_devices", lambda: [_devices(directory, certificate)])
    checks += guarded("safety_class", lambda: [ReplayCheck(*check) for check in check_safety_files(directory, certificate)])
    checks += guarded("trials", lambda: _trials(directory, certificate))
    checks += guarded("numbers", lambda: list(consistency_checks(certificate)))
    checks += guarded("diagnostics", lambda: [diagnostics_check(certificate)])
    checks += guarded("evaluation_set", lambda: [_evaluation_set(certificate)])
    checks += guarded("certified_samples", lambda: _certified(directory, certificate))
    return checks


def _manifest(directory: Path, certificate: CertificateModel) -> ReplayCheck:
    """Compare every file with the digest that the folder's manifest states; a file that somebody added refutes nothing."""
    if not (directory / MANIFEST).exists():
        is_old = certificate.stated_version in _WITHOUT_MANIFEST
        return ReplayCheck(
            "manifest", None if is_old else False, f"there is no {MANIFEST}{': made by an earlier version' if is_old else ''}"
        )
    problems = [problem for problem in manifest_problems(directory) if problem.kind != "extra"]
    missing = {TRIALS, CERTIFICATE, *certificate.worst_found.witness} - {file.path for file in read_manifest(directory).files}
    if problems or missing:
        return ReplayCheck(
            "manifest", False, "; ".join([*map(str, problems[:3]), *(f"{name} is not listed" for name in sorted(missing)[:3])])
        )
    return ReplayCheck("manifest", True, f"every file has the digest that {MANIFEST} states")


def _hashes(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    checks = []
    for name, expected in certificate.worst_found.witness.items():
        if name not in (MODEL, _DEVIATIONS, DEVICES):
            raise InputRefusedError(
                f"witness files must be {MODEL}, {_DEVIATIONS} and {DEVICES}, got '{name}' (worst_found.witness); do not trust it"
            )
        found = sha256_of(directory / name)
        checks.append(ReplayCheck(f"hash of {name}", found == expected, f"sha256 {found[:16]}..."))
    return checks


def _deviations(directory: Path) -> dict[str, np.ndarray]:
    return read_tensors(directory / _DEVIATIONS, what="deviations of the witness")


def _devices(directory: Path, certificate: CertificateModel) -> ReplayCheck:
    if DEVICES not in certificate.worst_found.witness:
        return ReplayCheck("witness_devices", None, f"the certificate has no {DEVICES}: it was made by an earlier version")
    parts = _deviations(directory)
    nominal = {key.removesuffix(".nominal"): array for key, array in parts.items() if key.endswith(".nominal")}
    held, detail = devices_hold(directory, certificate, load_network(directory / MODEL).initializers, nominal)
    return ReplayCheck("witness_devices", held, detail)


def _in_box(directory: Path, certificate: CertificateModel) -> ReplayCheck:
    tensors = _deviations(directory)
    stored = load_network(directory / MODEL).initializers
    for layer in certificate.mapping.layers:
        name = layer.initializer
        missing = [f"{name}.{part}" for part in ("nominal", "lo", "hi", "deviation") if f"{name}.{part}" not in tensors]
        if missing or name not in stored:
            return ReplayCheck("witness_in_box", False, f"missing {missing or name}")
        nominal, lo, hi, deviation = (tensors[f"{name}.{part}"] for part in ("nominal", "lo", "hi", "deviation"))
        if not ((lo <= deviation) & (deviation <= hi)).all():
            return ReplayCheck("witness_in_box", False, f"a deviation of '{name}' leaves its interval")
        radius = max(float(hi.max(initial=0)), -float(lo.min(initial=0)))
        if radius > layer.box_radius * (1 + 1e-6):
            return ReplayCheck(
                "witness_in_box", False, f"the box of '{name}' has radius {radius:g}, the certificate says {layer.box_radius:g}"
            )
        if not np.array_equal(stored[name], nominal + deviation):
            return ReplayCheck("witness_in_box", False, f"weights of '{name}' are not nominal + deviation")
    return ReplayCheck(
        "witness_in_box", True, f"{len(certificate.mapping.layers)} tensors: lo <= deviation <= hi, and nominal + deviation stored"
    )


def _trials(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    table = from_parquet(directory / TRIALS)
    return [trials_check(certificate, table), *_stopping(certificate, table), _verdict(certificate, table)]


def _stopping(certificate: CertificateModel, table: TrialTable) -> list[ReplayCheck]:
    """Check that a run that may stop early stopped at the first trial at which its rule said so, and at no other."""
    claimed = certificate.monte_carlo.stopping
    if claimed is None or certificate.policy is None:
        return (
            []
            if not table.is_sequential and claimed is None
            else [ReplayCheck("stopping", False, "the trials and the certificate disagree")]
        )
    watch = Watch(stop_rule(Policy.model_validate(certificate.policy), higher_is_better=table.higher_is_better))
    stops = [watch.stops_after(value) for value in table.value.tolist()]
    ends = stops[-1] or table.num_trials == table.max_trials
    outcomes = [target.outcome for target in claimed.targets] == list(watch.outcomes)
    held = ends and not any(stops[:-1]) and outcomes and claimed.max_trials == table.max_trials
    return [ReplayCheck("stopping", held, f"{table.num_trials} of at most {table.max_trials} trials, {', '.join(watch.outcomes)}")]


def _evaluation_set(certificate: CertificateModel) -> ReplayCheck:
    """Derive the interval of every accuracy again from the score stated elsewhere."""
    claimed, drawn, converters = certificate.evaluation_set, certificate.monte_carlo, certificate.converters
    scores = {
        "clean": certificate.clean.score,
        "quantised": certificate.clean.quantised_score,
        "converters": None if converters is None else converters.score,
        "mean": drawn.mean,
        "worst_found": certificate.worst_found.score,
        "certified": certificate.certified.score,
    }
    # Sentences may read differently in another version; their numbers stand beside them.
    exactness = Exactness(texts=certificate.tool.version == __version__ and certificate.stated_version == certificate.VERSION)
    for row in claimed.intervals:
        score = scores.get(row.name)
        if score is None:
            return ReplayCheck("evaluation_set", False, f"there is no score '{row.name}'")
        again = interval_of(row.name, score, num_decisions=claimed.decisions, num_inputs=claimed.samples, most=claimed.most_decisions)
        if list(differences(again, row, place=row.name, exactness=exactness)) or claimed.samples != certificate.data.used:
            return ReplayCheck("evaluation_set", False, f"the interval of '{row.name}' is {again.low:.6g} to {again.high:.6g}")
    return ReplayCheck("evaluation_set", True, f"{len(claimed.intervals)} intervals on {claimed.samples} samples")


def _certified(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    """Derive the certified score and the largest tolerances again from what is stated of every sample."""
    claimed = certificate.certified
    if claimed.correct is None or claimed.largest_tolerance is None:
        return []
    table = per_sample.from_parquet(directory / CERTIFIED)
    held = (int(table.certified.sum()), len(table.certified)) == (claimed.correct, claimed.samples)
    largest = claimed.largest_tolerance
    tolerance = claimed.curve[-1].tolerance_fraction
    again = largest_tolerance(table, tolerance, largest.steps_per_octave)
    return [
        ReplayCheck("certified_samples", held, f"{int(table.certified.sum())} of {len(table.certified)} samples in {CERTIFIED}"),
        ReplayCheck("largest_tolerance", again == largest, f"{again.samples} samples, {again.uncertified} of them uncertified"),
    ]


def _verdict(certificate: CertificateModel, table: TrialTable) -> ReplayCheck:
    if certificate.tool.version != __version__ or certificate.stated_version != certificate.VERSION:
        return ReplayCheck("verdict", None, "judged by an earlier version's rules")
    policy = None if certificate.policy is None else Policy.model_validate(certificate.policy)
    again = judge(certificate, policy, table)
    return ReplayCheck("verdict", again == certificate.verdict, again.word)
