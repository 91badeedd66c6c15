"""The engine of the deployed network, held to the outputs of its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.engine.batches import Feed, Feeding, feeding_of_file
from cimrobust.engine.checks import FLOAT_TOLERANCE, HALF_TOLERANCE, Parity, compare
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import CimrobustError, SelfCheckError
from cimrobust.mapping.place import is_large
from cimrobust.onnx_io.batch import coupling_operators
from cimrobust.onnx_io.deploy import deploy, late_weights
from cimrobust.onnx_io.layers import LayerScan, ValuesOfFile
from cimrobust.onnx_io.shapes import has_half_activations
from cimrobust.onnx_io.walk import round_activations

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.task import Task
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.network import Network

_PARITY_SAMPLES = 512


class DeployedDiffersError(SelfCheckError):
    """The deployed network does not give the outputs of the model file.

    Which of the two is right is not known here.
    """


def open_deployed(
    network: Network,
    scan: LayerScan,
    dataset: DataSet,
    task: Task,
    clean_output: Shaped[np.ndarray, "samples ..."],
    output: str,
    *,
    holds: bool,
) -> tuple[OrtEngine, Parity, str]:
    """Deploy with a widened batch axis where that is right, else as the file says.

    Return the engine, its parity and a note.
    """
    in_file = feeding_of_file(
        network.inputs, dataset.inputs, 1, apart=bool(coupling_operators(network.model))
    )
    refused = ""
    for widen in (True, False) if in_file.mode != "none" else (False,):
        deployed = deploy(network, scan, widen=widen, has_batch=in_file.mode != "none", holds=holds)
        engine = OrtEngine(
            deployed,
            output=output,
            feeding=None if deployed.batch == "widened" or in_file.mode == "free" else in_file,
        )
        try:
            integer, tolerance = rounds_activations(network, scan), float_tolerance(network)
            parity = _parity_with_file(
                engine, scan, dataset, task, clean_output, integer=integer, tolerance=tolerance
            )
        except CimrobustError as err:
            if not widen:
                raise
            refused = str(err)
            continue
        if parity.holds:
            return engine, parity, _batch_note(engine, in_file, refused)
        refused = (
            f"outputs differ by {parity.max_difference:g} and {parity.differing_decisions} of"
            f" {parity.num_decisions} decisions"
        )
    raise DeployedDiffersError(
        f"deployed network must give the outputs of the model file, got: {refused}"
        f" ({network.path}); report this model"
    )


def _parity_with_file(
    engine: OrtEngine,
    scan: LayerScan,
    dataset: DataSet,
    task: Task,
    clean_output: Shaped[np.ndarray, "samples ..."],
    *,
    integer: bool,
    tolerance: float,
) -> Parity:
    inputs = first_samples(dataset.inputs, _PARITY_SAMPLES)
    expected = clean_output[:_PARITY_SAMPLES]
    got = engine.run(late_weights(scan), inputs, dataset.constants)
    part = replace(task, labels=task.labels[:_PARITY_SAMPLES])
    decisions = None
    if not task.is_regression and expected.shape == got.shape:
        decisions = (part.decide(expected), part.decide(got))
    return compare(expected, got, decisions=decisions, integer=integer, float_tolerance=tolerance)


def holds_weights(scan: LayerScan, placement: Placement) -> bool:
    """Tell whether the deployed model has the values of stored weights.

    Of a large network of floats the model of its file has them, and they are not held twice.
    Converters run parts of the deployed model, which need them.
    """
    floats = all(isinstance(layer.stored, ValuesOfFile) for layer in scan.layers)
    return placement.profile.needs_kernel or not (floats and is_large(scan))


def rounds_activations(network: Network, scan: LayerScan) -> bool:
    """Tell whether a network rounds activations, so that single levels of two runs may differ."""
    if any(layer.levels is not None for layer in scan.layers):
        return True
    return round_activations(network.operators)


def float_tolerance(network: Network) -> float:
    """Return how far outputs of an integer-free network may differ, relative to the largest."""
    return HALF_TOLERANCE if has_half_activations(network.model) else FLOAT_TOLERANCE


def first_samples(inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]], count: int) -> Feed:
    """Return the first samples of every graph input."""
    return {name: array[:count] for name, array in inputs.items()}


def _batch_note(engine: OrtEngine, in_file: Feeding, refused: str) -> str:
    why = (
        f" Widening the batch axis was tried and is not right for this model: {refused}."
        if refused
        else ""
    )
    if in_file.mode == "none":
        return "The model has no batch axis: it is run sample by sample."
    if engine.deployed.batch == "widened":
        return (
            f"The file fixes the batch axis at {in_file.size}; it was widened to"
            f" {engine.batch_size}, and the outputs agree with the file's own on real inputs."
        )
    if engine.feeding.mode == "fixed" and engine.deployed.batch == "dynamic":
        return (
            "The model takes any number of samples, but those of one batch would change each"
            f" other's results: they are run one at a time.{why}"
        )
    if engine.feeding.mode == "fixed":
        last = (
            " (the last batch is filled up, what fills it is not scored)"
            if in_file.size > 1
            else ""
        )
        return f"The file fixes the batch axis at {in_file.size}: samples are run so{last}.{why}"
    return (
        f"The model takes any number of samples: they are run {engine.batch_size} at a time.{why}"
    )
