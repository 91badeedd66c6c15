"""What is wrong with a certificate's evidence, as far as files tell without running a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate.baseline_required import data_digests
from cimrobust.certificate.gate_evidence import EvidenceProblem
from cimrobust.certificate.result_names import CERTIFIED, TRIALS
from cimrobust.input_file import printable
from cimrobust.onnx_io.load_network import load_network
from cimrobust.review.believed import believed
from cimrobust.review.file_checks import file_checks
from cimrobust.review.profile_check import profile_check
from cimrobust.review.record_checks import release_of
from cimrobust.review.replay_check import guarded

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.montecarlo.trial_table import TrialTable
    from cimrobust.onnx_io.network import Network

# The tool that first counted weights in Constant nodes as parameters.
_COUNTS_CONSTANTS = (0, 9, 0)
_MOST_NAMED = 3
_WITNESS_MODEL = "witness/worst_case.onnx"
_WITNESS = (_WITNESS_MODEL, "witness/deviations.safetensors")

_NO_MODEL = "whether it is of the network that is deployed is not compared: give --model"
_NO_DATA = "whether it is of the data that were meant is not compared: give --data"


@dataclass(frozen=True)
class Examined:
    """What the files of a certificate tell about it.

    Attributes:
        problems: What does not hold; empty: all holds that was checked.
        unchecked: What was not checked, and what would.
    """

    problems: list[EvidenceProblem]
    unchecked: list[EvidenceProblem]


def examine(
    directory: Path,
    certificate: CertificateModel,
    model: Path | None,
    data: str | None,
    *,
    read_trials: Callable[[], TrialTable] | None = None,
) -> Examined:
    """Check everything that the files of a certificate tell about it, and say what they do not.

    Runs no network.

    Args:
        directory: Folder of the certificate.
        certificate: The certificate.
        model: The network that is to be deployed; None: it is not compared.
        data: The evaluation data; None: they are not compared.
        read_trials: As for `file_checks`.

    Raises:
        CimrobustError: The network or the data that are given cannot be read.
    """
    checks = file_checks(directory, certificate, read_trials=read_trials)
    command = certificate.reproduce.command
    checks += guarded("device_profile", lambda: [profile_check(certificate, command, None)])
    problems = list(_missing(directory, certificate))
    problems += [EvidenceProblem(check.id, check.detail) for check in checks if check.held is False]
    unchecked = [EvidenceProblem(check.id, check.detail) for check in checks if check.held is None]
    network = None if model is None else load_network(model)
    if network is None:
        unchecked.append(EvidenceProblem("model_hash", _NO_MODEL))
    else:
        problems += _other_model(certificate, network)
        rest = _other_rest(directory, certificate, network)
        problems += rest.problems
        unchecked += rest.unchecked
    if data is None:
        unchecked.append(EvidenceProblem("data_hash", _NO_DATA))
    else:
        problems += _other_data(directory, certificate, network, data)
    return Examined(problems, [*unchecked, *believed(certificate)])


def _missing(directory: Path, certificate: CertificateModel) -> Iterator[EvidenceProblem]:
    """Yield files that every certificate has, or that this one names, and that are not there."""
    witness = certificate.worst_found.witness
    needed = [TRIALS, *_WITNESS, *(name for name in witness if name not in _WITNESS)]
    # Certificates of the first versions have no largest tolerance, and no table of it.
    if (
        certificate.certified.largest_tolerance is not None
        and certificate.certified.correct is not None
    ):
        needed.append(CERTIFIED)
    for name in needed:
        if not (directory / name).is_file():
            yield EvidenceProblem("missing", f"file {printable(name)[:200]} is missing")
    for name in _WITNESS:
        if name not in witness:
            yield EvidenceProblem("witness", f"the certificate states no digest of {name}")


def _other_model(certificate: CertificateModel, network: Network) -> Iterator[EvidenceProblem]:
    """Compare a network with the certified one: files, and what the certificate says of it."""
    claimed, found = (
        {file.sha256 for file in certificate.model.files},
        {file.sha256 for file in network.files},
    )
    if claimed != found:
        stated = ", ".join(
            f"{printable(file.name)[:100]} (sha256 {file.sha256[:16]}...)"
            for file in certificate.model.files
        )
        yield EvidenceProblem(
            "model_hash",
            f"the certificate is of another network: {stated or 'no file'}, not of"
            f" {network.path.name}",
        )
        return
    described = certificate.model
    pairs = {
        "parameters": (described.parameters, _num_parameters(certificate, network)),
        "operators": (described.operators, dict(network.operators)),
        "ir_version": (described.ir_version, network.ir_version),
    }
    wrong = [f"model.{name}" for name, (theirs, ours) in pairs.items() if theirs != ours]
    if wrong:
        yield EvidenceProblem(
            "model_numbers", f"the certificate describes the network wrongly: {', '.join(wrong)}"
        )


def _other_rest(directory: Path, certificate: CertificateModel, network: Network) -> Examined:
    """Compare what the witness does not store in devices: biases, normalisations, constants."""
    path = directory / _WITNESS_MODEL
    if not path.is_file():  # reported as missing already
        return Examined([], [])
    stored = {layer.initializer for layer in certificate.mapping.layers}
    witness = load_network(path).initializers
    # What a run brings to another form before it stores it has another name there.
    names = (network.initializers.keys() & witness.keys()) - stored
    wrong = sorted(
        name for name in names if not _are_same(network.initializers[name], witness[name])
    )
    problems, unchecked = [], []
    if wrong:
        said = (
            f"the witness has other values of {_shown(wrong)}, which no device stores, than the"
            " network"
        )
        problems.append(EvidenceProblem("witness_rest", said))
    alone = sorted((network.initializers.keys() ^ witness.keys()) - stored)
    if alone:
        said = f"values of {_shown(alone)} are in one of network and witness alone: not compared"
        unchecked.append(EvidenceProblem("witness_rest", f"{said} by a gate, but by a replay"))
    return Examined(problems, unchecked)


def _shown(names: list[str]) -> str:
    return ", ".join(printable(name)[:80] for name in names[:_MOST_NAMED])


def _are_same(one: Shaped[np.ndarray, "..."], other: Shaped[np.ndarray, "..."]) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _num_parameters(certificate: CertificateModel, network: Network) -> int:
    """Return the parameters of a network as the tool of a certificate counted them."""
    made = release_of(certificate.tool.version)
    counted_without = made is not None and made < _COUNTS_CONSTANTS
    return network.num_parameters - (network.num_in_constants if counted_without else 0)


def _other_data(
    directory: Path, certificate: CertificateModel, network: Network | None, data: str
) -> Iterator[EvidenceProblem]:
    """Compare evaluation data with those of the certificate."""
    if network is None:
        witness = directory / _WITNESS_MODEL
        if not witness.is_file():  # reported as missing already
            return
        network = load_network(witness)
    # Few gates are given data, and all that can be data takes long to import.
    from cimrobust.data.load_dataset import load_data  # noqa: PLC0415

    dataset = load_data(data, inputs=network.inputs, limit=certificate.data.used)
    found = {digest for name, digest in dataset.source.files.items() if not name.endswith(".toml")}
    if found != data_digests(certificate):
        yield EvidenceProblem(
            "data_hash", f"the certificate is of other data than {printable(data)}"
        )
    elif dataset.num_samples != certificate.data.used:
        yield EvidenceProblem(
            "data_samples",
            f"there are {dataset.num_samples} samples, the certificate uses"
            f" {certificate.data.used}",
        )
