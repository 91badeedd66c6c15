"""What a user names, loaded: the network on its devices, and deployed on its samples.

With onnxruntime's own arithmetic examined: who is wrong where two runs differ.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certify.exact_arithmetic import check_arithmetic, twin_bytes
from cimrobust.data.calibration import load_samples
from cimrobust.engine.deployed_engine import DeployedDiffersError
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.opening_memory import require_opening
from cimrobust.engine.original_file import decision_output
from cimrobust.engine.teacher import labelled_by
from cimrobust.errors import ModelNotCoveredError, SelfCheckError, UsageError
from cimrobust.freed_memory import return_freed
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.inspection import Inspection, inspect_model

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.engine.arithmetic_findings import Arithmetic
    from cimrobust.settings.subject_settings import SubjectSettings

_SHOWN = 3


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


def open_examined(
    inspection: Inspection, dataset: DataSet, *, calibration: DataSet | None, workers: int
) -> Runtime:
    """Deploy a network as `open_network` does; compare the run of its file with exact arithmetic.

    Args:
        inspection: The network and where it is stored.
        dataset: Samples and labels.
        calibration: Samples that converters take their ranges from.
        workers: Threads; no result depends on it.

    Raises:
        ModelNotCoveredError: onnxruntime does not compute the file as ONNX defines it, or the
            network does not fit into memory.
        SelfCheckError: It does, and the deployed network gives something else.
    """
    network = inspection.network
    require_opening(
        network,
        inspection.scan,
        is_placed=inspection.is_placed,
        has_converters=inspection.profile.needs_kernel,
    )
    try:
        runtime = open_network(
            network,
            inspection.scan,
            inspection.placement,
            dataset,
            calibration=calibration,
            workers=workers,
        )
    except DeployedDiffersError as err:
        found = _examine(inspection, dataset)
        if found.wrong:
            raise ModelNotCoveredError(
                f"{_wrong(found)} ({network.path}); the deployed network differs from such a run"
                " and was not used"
            ) from err
        which = (
            f"which of the two is right was not compared: {found.reason}"
            if found.reason is not None
            else (
                f"the run of the file was compared with exact arithmetic in {found.compared}"
                " tensors and is right, the deployed network is wrong"
            )
        )
        raise SelfCheckError(f"{err}; {which}") from err
    found = _examine(inspection, dataset)
    if found.wrong_products:
        raise ModelNotCoveredError(
            f"{_wrong(found)} ({network.path}); run it on another processor or with another version"
            " of onnxruntime"
        )
    warnings = runtime.warnings if not found.wrong else (*runtime.warnings, f"{_wrong(found)}.")
    return replace(runtime, checks=replace(runtime.checks, arithmetic=found), warnings=warnings)


def _examine(inspection: Inspection, dataset: DataSet) -> Arithmetic:
    network = inspection.network
    found = check_arithmetic(
        network,
        dataset.inputs,
        dataset.constants,
        output=decision_output(network.outputs, dataset.decision.output),
    )
    return_freed(twin_bytes(network))
    return found


def _wrong(found: Arithmetic) -> str:
    some = "; ".join(str(tensor) for tensor in found.wrong[:_SHOWN])
    more = f"; and {len(found.wrong) - _SHOWN} more" if len(found.wrong) > _SHOWN else ""
    return (
        "onnxruntime on this processor must compute what the model's operators say, got other"
        f" numbers in {some}{more}"
    )
