"""That the output of a sample is its own: the same whatever other samples are in its batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.engine.batches import feeding_of_file
from cimrobust.engine.checks import FLOAT_TOLERANCE, max_difference
from cimrobust.engine.original_file import run_original
from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.batch import coupling_operators

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.onnx_io.network import Network

_SAMPLES = 64
# Copies of one sample that fill a batch of fixed size are run for fewer samples.
_FILLED_SAMPLES = 8
# Networks that round activations may give another level where sums are added in another order, for
# some samples.
_ROUNDING_SHARE = 0.5


def check_samples_apart(
    network: Network,
    dataset: DataSet,
    clean_output: Shaped[np.ndarray, "samples ..."],
    *,
    rounds: bool,
    tolerance: float = FLOAT_TOLERANCE,
) -> None:
    """Check that the model file gives a sample the same output alone as among others.

    Samples are run one at a time where the file takes any number, and in batches filled with copies
    of one where it takes a fixed number. Operators that are known to choose one
    quantisation range for a batch are left out: where the file takes any number their samples are
    run one at a time anyway, and where it does not, a note says so.

    Args:
        network: The network as loaded.
        dataset: Samples in the graph's element types, the decision output named.
        clean_output: Its decision output on all samples.
        rounds: The network rounds activations.
        tolerance: Difference that rounding alone makes, relative to the largest output.

    Raises:
        ModelNotCoveredError: It does not, so that no output of it is the right one.
    """
    feeding = feeding_of_file(network.inputs, dataset.inputs, 1)
    if (
        coupling_operators(network.model)
        or dataset.num_samples < 2
        or feeding.mode == "none"
        or (feeding.mode == "fixed" and feeding.size == 1)
    ):
        return
    output = str(dataset.decision.output)
    if feeding.mode == "free":
        few = {name: array[:_SAMPLES] for name, array in dataset.inputs.items()}
        alone = run_original(network, few, dataset.constants, output=output, batch_size=1)
        where = "batches of 16 and of 1"
    else:
        alone = _filled(network, dataset.inputs, dataset.constants, output, feeding.size)
        where = f"a batch of {feeding.size} and one filled with copies of the sample"
    expected = clean_output[: len(alone)]
    largest, share = _differing(expected, alone, tolerance)
    if share > (_ROUNDING_SHARE if rounds else 0.0):
        raise ModelNotCoveredError(
            "model must give a sample the same output whatever other samples are in its batch, got"
            f" a difference of {largest:g} between {where} ({network.path}); export it in inference"
            " mode, without operators that mix samples or draw random numbers; where its input has"
            " the samples along another axis (time first), export it batch first, or give every"
            " sample that axis with length 1 by a reshape step"
        )


def _filled(
    network: Network,
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]],
    output: str,
    size: int,
) -> Shaped[np.ndarray, "copies ..."]:
    count = min(_FILLED_SAMPLES, len(next(iter(inputs.values()))))
    copies = {name: np.repeat(array[:count], size, axis=0) for name, array in inputs.items()}
    return run_original(network, copies, constants, output=output)[::size]


def _differing(
    expected: Shaped[np.ndarray, "compared ..."],
    got: Shaped[np.ndarray, "compared ..."],
    relative: float,
) -> tuple[float, float]:
    """Return the largest difference, and the share of samples whose outputs differ.

    Only differences of more than rounding count for the share.
    """
    if expected.dtype.kind not in "fiub":
        unequal = np.asarray(expected != got).reshape(len(expected), -1).any(axis=1)
        return float(unequal.any()), float(unequal.mean())
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    tolerance = relative * (float(finite.max(initial=0.0)) or 1.0)
    differences = [max_difference(one, other) for one, other in zip(expected, got, strict=True)]
    return max(differences), float(np.mean([difference > tolerance for difference in differences]))
