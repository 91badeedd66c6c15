"""Sweeps and re-trainings, read from their folders."""

from __future__ import annotations

from pathlib import Path

from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.certificate.read_record import read_result
from cimrobust.certificate.result_names import RETRAINING, SWEEP


def read_sweep(directory: Path) -> SweepModel:
    """Read and check somebody's sweep, of this version of the format or an older one.

    Raises:
        InputRefusedError: It is missing, not JSON, or does not follow the schema; names the place.
    """
    return read_result(
        directory / SWEEP, SweepModel, hint="is this the folder that `cimrobust sweep --out` wrote?"
    )


def read_retraining(directory: Path) -> Retraining:
    """Read and check somebody's re-training, of this version of the format or an older one.

    Raises:
        InputRefusedError: It is missing, not JSON, or does not follow the schema; names the place.
    """
    return read_result(
        directory / RETRAINING,
        Retraining,
        hint="is this the folder that `cimrobust retrain --out` wrote?",
    )
