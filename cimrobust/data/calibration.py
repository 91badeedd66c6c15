"""Samples for calibrating converters, kept apart from those that are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from cimrobust.data.calibration_share import CALIBRATION_SAMPLES, LARGEST_SHARE, set_apart
from cimrobust.data.description import names_training_data
from cimrobust.data.load_dataset import load_data
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.graph_input import GraphInput


def load_samples(
    data: str | Path,
    calibration: str | None,
    *,
    inputs: Sequence[GraphInput],
    limit: int | None,
    needs_calibration: bool,
) -> tuple[DataSet, DataSet | None]:
    """Load the samples to evaluate and, where they are needed, others to calibrate with.

    Calibration samples come from `calibration` if it is given, else from the description's
    ``train_file``, else from the end of `data`: up to 256, a quarter of the file at most, which are
    then left out of the evaluation.

    Args:
        data: Evaluation data, as for `load_data`.
        calibration: Calibration data, as for `load_data`; None: see above.
        inputs: Graph inputs.
        limit: Evaluate the first so many samples.
        needs_calibration: Load calibration samples.

    Returns:
        Evaluation samples and calibration samples.

    Raises:
        UsageError: As `load_data`; or the file is too small to be divided.
    """
    if not needs_calibration:
        return load_data(data, inputs=inputs, limit=limit), None
    if calibration is not None:
        evaluated = load_data(data, inputs=inputs, limit=limit)
        return evaluated, _apart(
            load_data(calibration, inputs=inputs, limit=CALIBRATION_SAMPLES),
            evaluated,
            f"{calibration}, --calibration",
        )
    if names_training_data(data):
        evaluated = load_data(data, inputs=inputs, limit=limit)
        training = load_data(data, inputs=inputs, limit=CALIBRATION_SAMPLES, part="train")
        return evaluated, _apart(training, evaluated, f"{data}, key 'train_file'")
    whole = load_data(data, inputs=inputs, keep=partial(_both_ends, limit))
    counted = whole.source.num_available - whole.source.num_ignored
    count = set_apart(counted)
    if count < 1:
        raise UsageError(
            f"data must have at least {int(1 / LARGEST_SHARE)} samples to set some apart for"
            f" calibration, got {counted} ({data}); give --calibration"
        )
    return whole.part(slice(0, whole.num_samples - count)), whole.part(
        slice(whole.num_samples - count, None)
    )


def _both_ends(limit: int | None, num_counted: int) -> Int64[np.ndarray, "wanted"]:
    """Return the samples to evaluate, from the start, and those set apart, at the end."""
    kept = num_counted - set_apart(num_counted)
    evaluated = np.arange(kept if limit is None else min(limit, kept), dtype=np.int64)
    return np.concatenate([evaluated, np.arange(kept, num_counted, dtype=np.int64)])


def _apart(calibration: DataSet, evaluated: DataSet, where: str) -> DataSet:
    """Return the calibration samples.

    Raises:
        UsageError: They come from a file that is evaluated.
    """
    shared = _digests(calibration) & _digests(evaluated)
    if shared:
        raise UsageError(
            "calibration data must not be evaluation data, got the same file, sha256"
            f" {sorted(shared)[0][:16]}... ({where}); give other samples, or leave it out: then the"
            " last quarter of the data, 256 samples at most, is set apart"
        )
    return calibration


def _digests(dataset: DataSet) -> set[str]:
    """Return the digests of the files that samples come from."""
    return {digest for name, digest in dataset.source.files.items() if not name.endswith(".toml")}
