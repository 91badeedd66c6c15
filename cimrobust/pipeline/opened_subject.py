"""What a user names, loaded: the network on its devices, and deployed on its samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.data.calibration import load_samples
from cimrobust.engine.teacher import labelled_by
from cimrobust.errors import UsageError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.examined import open_examined
from cimrobust.pipeline.inspection import Inspection, inspect_model

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.settings.subject_settings import SubjectSettings


def inspect_subject(named: SubjectSettings) -> Inspection:
    """Load the model and place its crossbar layers; errors as `inspect_model`."""
    return inspect_model(
        named.model, device=str(named.device), tolerance=named.tolerance, digital=named.digital
    )


def open_subject(named: SubjectSettings, inspection: Inspection, *, workers: int) -> Runtime:
    """Load the samples and deploy the network on them.

    Errors as `load_samples` and `open_examined`.

    Args:
        named: What a user named.
        inspection: What `inspect_subject` returned, or the network on other devices.
        workers: Threads; no result depends on it.

    Raises:
        UsageError: The labels are to be those of another network, but the data have their own.
    """
    dataset, calibrating = load_samples(
        named.data,
        None if named.calibration is None else str(named.calibration),
        inputs=inspection.network.inputs,
        limit=named.limit,
        needs_calibration=inspection.profile.needs_kernel,
    )
    if named.labels_of is not None:
        if dataset.labels is not None:
            raise UsageError(
                "data must have no labels where another network's decisions are to be the"
                f" labels, got labels in {named.data} (--labels-of); leave --labels-of out, or"
                " write self = true under [label]"
            )
        dataset = labelled_by(load_network(Path(named.labels_of)), dataset, workers=workers)
    return open_examined(inspection, dataset, calibration=calibrating, workers=workers)
