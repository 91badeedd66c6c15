"""The samples of a result, as the reviewer who replays it has them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.data.calibration import load_samples

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.onnx_io.network import Network
    from cimrobust.review.at_the_reviewer import Given
    from cimrobust.review.evaluated import Evaluated


def stated_samples(result: Evaluated, given: Given, network: Network) -> DataSet:
    """Return the evaluation samples.

    A class axis that was found and not described is to be found again.

    Args:
        result: The certificate or sweep.
        given: What is at hand: samples with their labels.
        network: The network that they are for.

    Raises:
        CimrobustError: The data cannot be read, or do not fit.
    """
    dataset = given.samples(result, network.inputs)
    if result.data.decision.axis_reason is None:
        return dataset
    return replace(dataset, decision=replace(dataset.decision, axis=None))


def calibration_samples(result: Evaluated, given: Given, network: Network) -> DataSet | None:
    """Return the samples that converters take their ranges from; None: the evaluation samples.

    Arguments and errors as for `stated_samples`.
    """
    assert given.data is not None
    calibrating = load_samples(
        given.data,
        given.calibration,
        inputs=network.inputs,
        limit=result.data.used,
        needs_calibration=True,
    )[1]
    if calibrating is None:
        return None
    # What they are judged by is the decision of the evaluation samples.
    return replace(calibrating, decision=stated_samples(result, given, network).decision)
