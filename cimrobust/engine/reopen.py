"""A network opened again on a worker, without the runs and proofs of the first opening.

They cost as much as several trials, and their results do not depend on who makes them. Whoever
opens again compares what trials depend on with the first opening (`montecarlo.trial_identity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.data.decision import Decision, LabelReading, Score
from cimrobust.data.task import Task
from cimrobust.engine.batches import Feeding, cast_inputs, check_inputs, feeding_of_file
from cimrobust.engine.checks import Checks
from cimrobust.engine.converter_proof import Converters
from cimrobust.engine.deployed_engine import holds_weights
from cimrobust.engine.kernel_engine import KernelEngine, wider
from cimrobust.engine.open import Runtime, sizes_at_hand
from cimrobust.engine.opening_memory import require_chip
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import SelfCheckError
from cimrobust.onnx_io.at_hand import at_hand
from cimrobust.onnx_io.batch import coupling_operators
from cimrobust.onnx_io.deploy import deploy

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.engine.codings import ArrayRanges
    from cimrobust.engine.engine_protocol import Engine
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network


@dataclass(frozen=True)
class FirstOpening:
    """What the first opening found out and proved; a value that can be pickled.

    Attributes:
        batch: What became of the batch axis, see `Deployed.batch`.
        feeding: How samples are fed in onnxruntime.
        output: Decision output.
        decision: How it is read.
        reading: How labels are coded.
        task: Scores it.
        clean: Score of the model file.
        quantised: Score of the quantised weights.
        converters: What the converters do; None: there are none.
        checks: Proofs of the deployed form.
        batch_note: How samples are fed, one sentence.
        warnings: What a reader of the results has to know.
        output_shape: Shape of the decision output of one sample.
    """

    batch: str
    feeding: Feeding
    output: str
    decision: Decision
    reading: LabelReading
    task: Task
    clean: Score
    quantised: Score
    converters: Converters | None
    checks: Checks
    batch_note: str
    warnings: tuple[str, ...]
    output_shape: tuple[int, ...]

    @classmethod
    def of(cls, runtime: Runtime) -> FirstOpening:
        """Return what an opened network has to hand on."""
        return cls(
            batch=runtime.deployed.batch,
            feeding=runtime.plain.feeding,
            output=runtime.plain.output,
            decision=runtime.dataset.decision,
            reading=runtime.dataset.reading,
            task=runtime.task,
            clean=runtime.clean,
            quantised=runtime.quantised,
            converters=runtime.converters,
            checks=runtime.checks,
            batch_note=runtime.batch_note,
            warnings=runtime.warnings,
            output_shape=runtime.clean_output.shape[1:],
        )


def reopen_network(
    network: Network,
    scan: LayerScan,
    placement: Placement,
    dataset: DataSet,
    first: FirstOpening,
    *,
    calibration: DataSet | None = None,
) -> Runtime:
    """Deploy a network as the first opening did, and run nothing.

    Args:
        network: The network as loaded.
        scan: Its crossbar layers.
        placement: Where they are stored.
        dataset: Samples.
        first: What the first opening found.
        calibration: Samples that converters took their ranges from: their sizes count.

    Returns:
        The opened network. Its clean output has no samples: nobody scores a worker's.

    Raises:
        UsageError: The data set does not fit the graph.
        ModelNotCoveredError: The network does not fit into memory.
        SelfCheckError: The network cannot be deployed as the first opening did.
    """
    check_inputs(network.inputs, [*dataset.inputs, *dataset.constants])
    require_chip(network, scan, has_converters=placement.profile.needs_kernel)
    ready = replace(
        dataset,
        inputs=cast_inputs(network.inputs, dataset.inputs),
        constants=cast_inputs(network.inputs, dataset.constants),
        decision=first.decision,
        reading=first.reading,
        stored={},
    )
    plain = _deployed_again(network, scan, ready, first, holds=holds_weights(scan, placement))
    specialised = at_hand(
        plain.deployed, sizes_at_hand(ready, calibration, has_batch=plain.feeding.mode != "none")
    )
    engine: Engine = plain
    if first.converters is not None:
        engine = _on_crossbars(plain, specialised, placement, first.converters.ranges)
    return Runtime(
        network=network,
        scan=scan,
        deployed=plain.deployed,
        at_hand=specialised,
        plain=plain,
        engine=engine,
        task=first.task,
        dataset=ready,
        clean=first.clean,
        clean_output=np.empty((0, *first.output_shape), dtype=np.float32),
        quantised=first.quantised,
        converters=first.converters,
        batch_note=first.batch_note,
        checks=first.checks,
        warnings=first.warnings,
    )


def _deployed_again(
    network: Network, scan: LayerScan, dataset: DataSet, first: FirstOpening, *, holds: bool
) -> OrtEngine:
    """Deploy with the batch axis and the batches of the first opening."""
    in_file = feeding_of_file(
        network.inputs, dataset.inputs, 1, apart=bool(coupling_operators(network.model))
    )
    for widen in (True, False) if in_file.mode != "none" else (False,):
        deployed = deploy(network, scan, widen=widen, has_batch=in_file.mode != "none", holds=holds)
        if deployed.batch == first.batch:
            return OrtEngine(deployed, output=first.output, feeding=first.feeding)
    raise SelfCheckError(
        f"network must be deployed as the first time, with the batch axis '{first.batch}', got"
        f" another ({network.path}); report this model"
    )


def _on_crossbars(
    plain: OrtEngine,
    deployed: Deployed,
    placement: Placement,
    ranges: Mapping[str, ArrayRanges],
) -> KernelEngine:
    return KernelEngine(
        deployed, placement, output=plain.output, feeding=wider(plain.feeding), ranges=ranges
    )
