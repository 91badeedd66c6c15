"""The network on crossbars with converters.

Calibrated, and proved against onnxruntime and the NumPy reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.data.decision import Score
from cimrobust.engine.batches import cast_inputs
from cimrobust.engine.calibrate import calibrate
from cimrobust.engine.calibration_cache import calibration_key, read_ranges, write_ranges
from cimrobust.engine.checks import Parity, compare, random_vertex
from cimrobust.engine.codings import ArrayRanges
from cimrobust.engine.kernel_engine import KernelEngine, wider
from cimrobust.engine.reference_engine import ReferenceCheck, check_against_reference
from cimrobust.errors import SelfCheckError, UsageError

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.task import Task
    from cimrobust.engine.ort import OrtEngine
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.onnx_io.network import Network

_PARITY_SAMPLES = 64


@dataclass(frozen=True)
class Converters:
    """What the converters of a run do.

    Attributes:
        score: Score of the quantised weights without deviation, through the converters.
        exact_reads: The same without read noise; None: the profile has none.
        ranges: What calibration saw at every product, by key.
        calibration_samples: Samples that ranges were taken from.
        calibration_files: Name and SHA-256 digest of the files they came from.
        ideal: Crossbars with ideal converters against onnxruntime, at the nominal weights and a
            corner of the box.
        reference: The kernel against the NumPy reference, converters included, at a corner of the
            box.
        digital: Nodes with stored weights whose converters are not simulated: name and reason.
    """

    score: Score
    exact_reads: Score | None
    ranges: Mapping[str, ArrayRanges]
    calibration_samples: int
    calibration_files: Mapping[str, str]
    ideal: Parity
    reference: ReferenceCheck
    digital: tuple[tuple[str, str], ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader of the results has to know."""
        return tuple(
            f"Converters of node '{name}' are not simulated ({reason}); its devices deviate."
            for name, reason in self.digital
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what a chip's output depends on, as plain values."""
        return {
            key: [ranges.low, ranges.high, None if ranges.sums is None else ranges.sums.tolist()]
            for key, ranges in self.ranges.items()
        }


def open_converters(
    plain: OrtEngine,
    deployed: Deployed,
    network: Network,
    placement: Placement,
    dataset: DataSet,
    task: Task,
    calibration: DataSet | None,
    *,
    workers: int = 1,
) -> tuple[KernelEngine, Converters]:
    """Put a deployed network on crossbars with the converters of its profile.

    Args:
        plain: The network in onnxruntime.
        deployed: The same network for the sizes of these samples.
        network: The network as loaded.
        placement: Where its weights are stored.
        dataset: Evaluation samples in the graph's element types.
        task: Scores them.
        calibration: Other samples, that ranges are taken from.
        workers: Threads; no result depends on it.

    Raises:
        UsageError: There are no calibration samples.
        SelfCheckError: With ideal converters the network on crossbars is not the network.
    """
    if calibration is None:
        raise UsageError(
            "calibration data must be given for a profile with converters, got none (profile"
            f" '{placement.profile.name}'); pass samples that are not evaluated"
        )
    few = {name: array[:_PARITY_SAMPLES] for name, array in dataset.inputs.items()}
    feeding = wider(plain.feeding)
    ideal_engine = KernelEngine(
        deployed, placement, output=plain.output, feeding=feeding, workers=workers
    )
    vertex = {name: random_vertex(tensor) for name, tensor in placement.tensors.items()}
    ideal = _ideal_parity(
        plain, ideal_engine, [placement.nominal(), vertex], few, dataset.constants, task
    )
    inputs = cast_inputs(network.inputs, calibration.inputs)
    key = calibration_key(network, placement, inputs, dataset.constants)
    ranges = read_ranges(key, ideal_engine.arrays)
    if ranges is None:
        ranges = calibrate(ideal_engine, inputs, dataset.constants)
        write_ranges(key, ranges)

    def opened(where: Placement) -> KernelEngine:
        return KernelEngine(
            deployed, where, output=plain.output, feeding=feeding, ranges=ranges, workers=workers
        )

    def nominal_score(engine: KernelEngine) -> Score:
        return task.score(
            engine.run(placement.nominal(), dataset.inputs, dataset.constants, threads=workers)
        )

    engine = opened(placement)
    noisy = placement.profile.read_noise is not None
    exact = opened(placement.with_exact_reads()) if noisy else None
    return engine, Converters(
        score=nominal_score(engine),
        exact_reads=None if exact is None else nominal_score(exact),
        ranges=ranges,
        calibration_samples=calibration.num_samples,
        calibration_files=calibration.source.files,
        ideal=ideal,
        reference=check_against_reference(engine, vertex, few, dataset.constants),
        digital=tuple((node.node, node.reason) for node in engine.digital),
    )


def _ideal_parity(
    plain: OrtEngine,
    engine: KernelEngine,
    points: list[dict[str, Float32[np.ndarray, "..."]]],
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]],
    task: Task,
) -> Parity:
    """Compare ideal-converter crossbars with onnxruntime; return the worst of some weights."""
    found: list[Parity] = []
    task = replace(task, labels=task.labels[: len(next(iter(inputs.values())))])
    for weights in points:
        expected, got = (
            plain.run(weights, inputs, constants),
            engine.run(weights, inputs, constants),
        )
        decisions = None if task.is_regression else (task.decide(expected), task.decide(got))
        found.append(compare(expected, got, decisions=decisions, integer=_rounds_inside(plain)))
    worst = max(found, key=lambda parity: (not parity.holds, parity.max_difference))
    if not worst.holds:
        raise SelfCheckError(
            "the network on crossbars with ideal converters must give the outputs of onnxruntime,"
            f" got a difference of {worst.max_difference:g} and {worst.differing_decisions} other"
            " decisions; report this model"
        )
    return worst


def _rounds_inside(plain: OrtEngine) -> bool:
    return any("Quantize" in node.op_type for node in plain.deployed.model.graph.node)
