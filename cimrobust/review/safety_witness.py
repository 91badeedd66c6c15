"""The claim about the safety class, derived again from its witness."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.data.fitted_task import make_task
from cimrobust.engine.original_file import run_original
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.save import save_model, with_initializers
from cimrobust.review.converter_score import converter_score
from cimrobust.review.safety_files import safety_claim, safety_tensors

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.data.dataset import DataSet
    from cimrobust.onnx_io.network import Network

Weights = dict[str, Shaped[np.ndarray, "..."]]


def safety_recall(
    directory: Path,
    certificate: CertificateModel,
    witness: Network,
    dataset: DataSet,
    clean: Shaped[np.ndarray, "samples ..."] | None,
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
    tensors, output = safety_tensors(directory), certificate.data.decision.output
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
