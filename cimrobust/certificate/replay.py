"""Somebody else's certificate, checked: every claim that its files let one derive again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cimrobust import __version__
from cimrobust.certificate.blocks.certified import largest_tolerance
from cimrobust.certificate.blocks.samples import interval_of
from cimrobust.certificate.files import CERTIFIED, TRIALS, read_certificate
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.policy import Policy, stop_rule
from cimrobust.certificate.replay_check import ReplayCheck
from cimrobust.certificate.replay_converters import converter_score
from cimrobust.certificate.replay_derived import consistency_checks, trials_check
from cimrobust.certificate.replay_devices import DEVICES, devices_hold
from cimrobust.certificate.replay_given import Given, labels_checks, open_given
from cimrobust.certificate.replay_layers import layers_check
from cimrobust.certificate.replay_machine import machine_check
from cimrobust.certificate.replay_probable import probable_checks
from cimrobust.certificate.replay_reading import reading_check
from cimrobust.certificate.replay_safety import check_safety_files, safety_claim, safety_recall
from cimrobust.certificate.verdict import judge
from cimrobust.certify import per_sample
from cimrobust.data.dataset import DataSet
from cimrobust.data.task import make_task
from cimrobust.engine.ort import run_original
from cimrobust.errors import CimrobustError, InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.graph.load import load_network
from cimrobust.graph.network import Network
from cimrobust.input_file import FileKind, printable, read_input
from cimrobust.montecarlo.stopping import Watch
from cimrobust.montecarlo.table import TrialTable, from_parquet
from cimrobust.tensor_file import read_tensors

_MODEL = "witness/worst_case.onnx"
_DEVIATIONS = "witness/deviations.safetensors"
_MAX_REPORT = 2**30


def replay_certificate(
    directory: Path, *, model: Path | None, data: str | None, labels_of: Path | None, render: Callable[[CertificateModel], str], html: str
) -> list[ReplayCheck]:
    """Derive the claims of a certificate again from its files.

    Args:
        directory: Folder of the certificate.
        model: The certified network; None: its claims are not checked.
        data: The evaluation data; None: scores are not checked.
        labels_of: The network whose decisions are the labels; None: scores by them are not checked.
        render: Makes the report of a certificate.
        html: Name of the report's file.

    Raises:
        InputRefusedError: There is no certificate, or it does not follow the schema.
    """
    certificate = read_certificate(directory)
    checks = file_checks(directory, certificate)
    checks += _guarded("report", lambda: [_report(directory / html, certificate, render)])
    given = open_given(certificate, model=model, data=data, labels_of=labels_of)
    checks += _guarded("model_hash", lambda: [_model_hash(given.network, certificate)])
    checks += _guarded("layers", lambda: [layers_check(certificate, given.network)])
    checks += _guarded("labels_hash", lambda: list(labels_checks(certificate, given, is_asked=labels_of is not None)))
    checks += _guarded("most_probable", lambda: list(probable_checks(directory, certificate, given)))
    checks += _guarded("scores", lambda: list(_scores(directory, certificate, given)))
    return checks


def file_checks(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    """Derive again what follows from the files of a certificate alone; takes about a second."""
    checks = [ReplayCheck("schema", True, f"certificate.json follows schema {certificate.stated_version}")]
    checks.append(machine_check(certificate))
    checks += _guarded("witness_hashes", lambda: _hashes(directory, certificate))
    checks += _guarded("witness_in_box", lambda: [_in_box(directory, certificate)])
    checks += _guarded("witness_devices", lambda: [_devices(directory, certificate)])
    checks += _guarded("safety_class", lambda: [ReplayCheck(*check) for check in check_safety_files(directory, certificate)])
    checks += _guarded("trials", lambda: _trials(directory, certificate))
    checks += _guarded("numbers", lambda: list(consistency_checks(certificate)))
    checks += _guarded("evaluation_set", lambda: [_evaluation_set(certificate)])
    checks += _guarded("certified_samples", lambda: _certified(directory, certificate))
    return checks


def _guarded(name: str, body: Callable[[], list[ReplayCheck]]) -> list[ReplayCheck]:
    """Run one group of checks; a file that is missing or corrupt breaks the claim, not the replay."""
    try:
        return body()
    except CimrobustError as err:
        return [ReplayCheck(name, False, str(err))]
    except Exception as err:  # evidence is hostile until proved otherwise: what cannot be derived from it is no evidence
        return [ReplayCheck(name, False, f"cannot be derived: {printable(err)[:200]} ({type(err).__name__})")]


def _hashes(directory: Path, certificate: CertificateModel) -> list[ReplayCheck]:
    checks = []
    for name, expected in certificate.worst_found.witness.items():
        if name not in (_MODEL, _DEVIATIONS, DEVICES):
            raise InputRefusedError(
                f"witness files must be {_MODEL}, {_DEVIATIONS} and {DEVICES}, got '{name}' (worst_found.witness); do not trust it"
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
    held, detail = devices_hold(directory, certificate, load_network(directory / _MODEL).initializers, nominal)
    return ReplayCheck("witness_devices", held, detail)


def _in_box(directory: Path, certificate: CertificateModel) -> ReplayCheck:
    tensors = _deviations(directory)
    stored = load_network(directory / _MODEL).initializers
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
    for row in claimed.intervals:
        score = scores.get(row.name)
        if score is None:
            return ReplayCheck("evaluation_set", False, f"there is no score '{row.name}'")
        again = interval_of(row.name, score, num_decisions=claimed.decisions, num_inputs=claimed.samples, most=claimed.most_decisions)
        if again != row or claimed.samples != certificate.data.used:
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


def _report(path: Path, certificate: CertificateModel, render: Callable[[CertificateModel], str]) -> ReplayCheck:
    if certificate.stated_version != certificate.VERSION:
        made = f"the page was made by cimrobust {certificate.tool.version} of schema {certificate.stated_version}"
        return ReplayCheck("report", None, f"{made}; `cimrobust report` makes it again in today's form")
    expected = render(certificate)
    content = read_input(path, FileKind("report", _MAX_REPORT, missing=InputRefusedError))
    return ReplayCheck("report", content == expected.encode(), f"{path.name} is what certificate.json renders to")


def _model_hash(network: Network | None, certificate: CertificateModel) -> ReplayCheck:
    if network is None:
        return ReplayCheck("model_hash", None, "give --model to compare its digest")
    claimed = {entry.sha256 for entry in certificate.model.files}
    found = {file.sha256 for file in network.files}
    return ReplayCheck("model_hash", found == claimed, f"{network.path.name}: {len(found)} files compared")


def _scores(directory: Path, certificate: CertificateModel, given: Given) -> Iterator[ReplayCheck]:
    if given.data is None:
        yield ReplayCheck("worst_found", None, "give --data to score the witness again")
        return
    witness = load_network(directory / _MODEL)
    dataset, network = given.samples(certificate, witness.inputs), given.network
    digests = {value for key, value in dataset.source.files.items() if not key.endswith(".toml")}
    claimed = {value for key, value in certificate.data.files.items() if not key.endswith(".toml")}
    yield ReplayCheck("data_hash", digests == claimed, f"{len(digests)} files, {dataset.num_samples} samples")
    yield reading_check(certificate, given.described(certificate, witness.inputs))
    missing = given.without_labels(certificate, dataset)
    if missing:
        yield ReplayCheck("worst_found", None, missing)
        return
    output = certificate.data.decision.output
    worst = run_original(witness, dataset.inputs, dataset.constants, output=output)
    clean = None if network is None else run_original(network, dataset.inputs, dataset.constants, output=output)
    yield from _compare_scores(certificate, dataset, worst, clean)
    yield from _safety(directory, certificate, network, dataset, witness, clean)
    if certificate.converters is not None:
        yield _through_converters(certificate, network, dataset, witness)


def _safety(
    directory: Path, certificate: CertificateModel, network: Network | None, dataset: DataSet, witness: Network, clean: np.ndarray | None
) -> Iterator[ReplayCheck]:
    """Run the witness of the safety class again."""
    claimed = safety_claim(certificate)
    if claimed is None:
        return
    if certificate.converters is not None and network is None:
        yield ReplayCheck("safety_class", None, "give --model to score its witness through the converters")
        return
    recall = safety_recall(directory, certificate, witness, dataset, clean, network)
    held = bool(np.isclose(recall, claimed.recall, rtol=1e-6, atol=0))
    yield ReplayCheck("safety_class", held, f"recall of class {claimed.label} {recall:.6g}, claimed {claimed.recall:.6g}")


def _through_converters(certificate: CertificateModel, network: Network | None, dataset: DataSet, witness: Network) -> ReplayCheck:
    """Score the witness through the kernel with the converters that the certificate describes."""
    if network is None:
        return ReplayCheck("worst_found_converters", None, "give --model to score the witness through its converters")
    score, claimed = converter_score(certificate, network, dataset, witness.initializers), certificate.worst_found.score
    held = bool(np.isclose(score, claimed, rtol=1e-6, atol=0))
    return ReplayCheck("worst_found_converters", held, f"score {score:.6g} through converters, claimed {claimed:.6g}")


def _compare_scores(certificate: CertificateModel, dataset: DataSet, worst: np.ndarray, clean: np.ndarray | None) -> Iterator[ReplayCheck]:
    task = make_task(dataset, worst if clean is None else clean)
    for name, output, claimed in (
        ("worst_found", worst, certificate.worst_found.replay.score),
        ("clean", clean, certificate.clean.score),
    ):
        if output is None:
            yield ReplayCheck(name, None, "give --model to score it again")
            continue
        score = task.score(output)
        yield ReplayCheck(
            name, bool(np.isclose(score.value, claimed, rtol=1e-6, atol=0)), f"score {score.value:.6g}, claimed {claimed:.6g}"
        )
