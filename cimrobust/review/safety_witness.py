"""The claim about the safety class, derived again from its witness."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.diagnosed import SafetyClass
from cimrobust.data.dataset import DataSet
from cimrobust.data.fitted_task import make_task
from cimrobust.engine.ort import run_original
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.save import save_model, with_initializers
from cimrobust.review.converter_score import converter_score

SAFETY_FILE = "witness/safety_class.safetensors"
_WORST_FILE = "witness/deviations.safetensors"
Weights = dict[str, np.ndarray]


def safety_claim(certificate: CertificateModel) -> SafetyClass | None:
    """Return what a certificate claims of its safety class; None where it has none."""
    return None if certificate.diagnostics is None else certificate.diagnostics.safety_class


def check_safety_files(
    directory: Path, certificate: CertificateModel
) -> Iterator[tuple[str, bool, str]]:
    """Yield name, result and detail of the checks that need the witness alone.

    Raises:
        InputRefusedError: The witness is corrupt, or of another name.
    """
    claimed = safety_claim(certificate)
    if claimed is None:
        return
    if list(claimed.witness) != [SAFETY_FILE]:
        raise InputRefusedError(
            f"witness of the safety class must be {SAFETY_FILE}, got {list(claimed.witness)}; do"
            " not trust it"
        )
    digest = sha256_of(directory / SAFETY_FILE)
    yield (
        f"hash of {SAFETY_FILE}",
        digest == claimed.witness[SAFETY_FILE],
        f"sha256 {digest[:16]}...",
    )
    tensors, worst = _tensors(directory), _tensors(directory, _WORST_FILE)
    for layer in certificate.mapping.layers:
        name = layer.initializer
        parts = ("nominal", "lo", "hi", "deviation")
        if any(f"{name}.{part}" not in held for part in parts for held in (tensors, worst)):
            yield "safety_class_in_box", False, f"'{name}' is missing"
            return
        if not all(
            np.array_equal(tensors[f"{name}.{part}"], worst[f"{name}.{part}"]) for part in parts[:3]
        ):
            yield "safety_class_in_box", False, f"the box of '{name}' is not that of {_WORST_FILE}"
            return
        lo, hi, deviation = (tensors[f"{name}.{part}"] for part in parts[1:])
        if not ((lo <= deviation) & (deviation <= hi)).all():
            yield "safety_class_in_box", False, f"a deviation of '{name}' leaves its interval"
            return
    yield (
        "safety_class_in_box",
        True,
        f"{len(certificate.mapping.layers)} tensors: lo <= deviation <= hi",
    )


def safety_recall(
    directory: Path,
    certificate: CertificateModel,
    witness: Network,
    dataset: DataSet,
    clean: np.ndarray | None,
    network: Network | None,
) -> float:
    """Return the recall of the safety class on the chip of its witness, run again.

    Args:
        directory: Folder of the certificate.
        certificate: The certificate; it has a safety class.
        witness: The worst chip's model, whose stored weights are replaced.
        dataset: The evaluation samples.
        clean: Decision output of the certified network; None: the labels of the data are used.
        network: The certified network; needed with converters.
    """
    claimed = safety_claim(certificate)
    assert claimed is not None
    tensors, output = _tensors(directory), certificate.data.decision.output
    names = [layer.initializer for layer in certificate.mapping.layers]
    weights: Weights = {
        name: tensors[f"{name}.nominal"] + tensors[f"{name}.deviation"] for name in names
    }
    base = (
        clean
        if clean is not None
        else run_original(witness, dataset.inputs, dataset.constants, output=output)
    )
    labels = make_task(dataset, base).labels
    part = np.flatnonzero(labels == claimed.label)
    taken = replace(
        dataset,
        inputs={name: array[part] for name, array in dataset.inputs.items()},
        labels=labels[part],
    )
    taken = replace(taken, reading=replace(dataset.reading, kind="indices"), stored={})
    if certificate.converters is not None and network is not None:
        return converter_score(certificate, network, taken, weights)
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        path = Path(folder) / "safety_class.onnx"
        save_model(with_initializers(witness, weights), path)
        found = run_original(load_network(path), taken.inputs, taken.constants, output=output)
    return make_task(taken, base[part]).score(found).value


def _tensors(directory: Path, name: str = SAFETY_FILE) -> dict[str, np.ndarray]:
    return read_pattern(directory / name, what="deviations of the witness")
