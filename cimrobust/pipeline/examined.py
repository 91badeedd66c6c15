"""A network made ready to run, with onnxruntime's own arithmetic examined.

Who is wrong where two runs differ.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.certify.exact_arithmetic import check_arithmetic, twin_bytes
from cimrobust.engine.open import DeployedDiffersError, Runtime, open_network
from cimrobust.engine.opening_memory import require_opening
from cimrobust.engine.ort import decision_output
from cimrobust.errors import ModelNotCoveredError, SelfCheckError
from cimrobust.freed_memory import return_freed

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.engine.arithmetic_findings import Arithmetic
    from cimrobust.pipeline.inspection import Inspection

_SHOWN = 3


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
