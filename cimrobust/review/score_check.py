"""Scores of the witness and of the certified network, computed again in plain onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.fitted_task import make_task
from cimrobust.engine.original_file import run_original
from cimrobust.onnx_io.load_network import load_network
from cimrobust.records import finite
from cimrobust.review.converter_score import converter_score
from cimrobust.review.file_checks import MODEL
from cimrobust.review.reading_check import reading_check
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.safety_files import safety_claim
from cimrobust.review.safety_witness import safety_recall

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.data.dataset import DataSet
    from cimrobust.onnx_io.network import Network
    from cimrobust.review.at_the_reviewer import Given
    from cimrobust.review.evaluated import Evaluated


def score_checks(
    directory: Path, certificate: CertificateModel, given: Given
) -> Iterator[ReplayCheck]:
    """Score the witness's file, and the certified network, on the evaluation data.

    Args:
        directory: Folder of the certificate.
        certificate: The certificate.
        given: What is at hand.

    Raises:
        CimrobustError: The data cannot be read, or do not fit.
    """
    if given.data is None:
        yield ReplayCheck("worst_found", None, "give --data to score the witness again")
        return
    witness = load_network(directory / MODEL)
    dataset, network = given.samples(certificate, witness.inputs), given.network
    yield from data_checks(certificate, given, dataset, witness)
    missing = given.without_labels(certificate, dataset)
    if missing:
        yield ReplayCheck("worst_found", None, missing)
        return
    output = certificate.data.decision.output
    worst = run_original(witness, dataset.inputs, dataset.constants, output=output)
    clean = (
        None
        if network is None
        else run_original(network, dataset.inputs, dataset.constants, output=output)
    )
    yield from _compare_scores(certificate, dataset, worst, clean)
    yield from _safety(directory, certificate, network, dataset, witness, clean)
    if certificate.converters is not None:
        yield _through_converters(certificate, network, dataset, witness)


def data_checks(
    result: Evaluated, given: Given, dataset: DataSet, network: Network
) -> Iterator[ReplayCheck]:
    """Compare the digests of the data, and how they describe themselves.

    Args:
        result: A certificate or a sweep.
        given: What is at hand.
        dataset: The samples, read as the result says.
        network: Any network with its inputs.
    """
    digests = {value for key, value in dataset.source.files.items() if not key.endswith(".toml")}
    claimed = {value for key, value in result.data.files.items() if not key.endswith(".toml")}
    yield ReplayCheck(
        "data_hash", digests == claimed, f"{len(digests)} files, {dataset.num_samples} samples"
    )
    yield reading_check(result, given.described(result, network.inputs))


def _safety(
    directory: Path,
    certificate: CertificateModel,
    network: Network | None,
    dataset: DataSet,
    witness: Network,
    clean: Shaped[np.ndarray, "samples ..."] | None,
) -> Iterator[ReplayCheck]:
    """Run the witness of the safety class again."""
    claimed = safety_claim(certificate)
    if claimed is None:
        return
    if certificate.converters is not None and network is None:
        yield ReplayCheck(
            "safety_class", None, "give --model to score its witness through the converters"
        )
        return
    recall = safety_recall(directory, certificate, witness, dataset, clean, network)
    held = bool(np.isclose(recall, claimed.recall, rtol=1e-6, atol=0))
    yield ReplayCheck(
        "safety_class",
        held,
        f"recall of class {claimed.label} {recall:.6g}, claimed {claimed.recall:.6g}",
    )


def _through_converters(
    certificate: CertificateModel, network: Network | None, dataset: DataSet, witness: Network
) -> ReplayCheck:
    """Score the witness through the kernel with the converters that the certificate describes."""
    if network is None:
        return ReplayCheck(
            "worst_found_converters",
            None,
            "give --model to score the witness through its converters",
        )
    score, claimed = (
        finite(converter_score(certificate, network, dataset, witness.initializers)),
        certificate.worst_found.score,
    )
    held = bool(np.isclose(score, claimed, rtol=1e-6, atol=0))
    return ReplayCheck(
        "worst_found_converters",
        held,
        f"score {score:.6g} through converters, claimed {claimed:.6g}",
    )


def _compare_scores(
    certificate: CertificateModel,
    dataset: DataSet,
    worst: Shaped[np.ndarray, "samples ..."],
    clean: Shaped[np.ndarray, "samples ..."] | None,
) -> Iterator[ReplayCheck]:
    task = make_task(dataset, worst if clean is None else clean)
    for name, output, claimed in (
        ("worst_found", worst, certificate.worst_found.replay.score),
        ("clean", clean, certificate.clean.score),
    ):
        if output is None:
            yield ReplayCheck(name, None, "give --model to score it again")
            continue
        score = finite(task.score(output).value)
        yield ReplayCheck(
            name,
            bool(np.isclose(score, claimed, rtol=1e-6, atol=0)),
            f"score {score:.6g}, claimed {claimed:.6g}",
        )
