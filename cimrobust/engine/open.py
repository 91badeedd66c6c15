"""A network made ready to be run thousands of times.

How it is fed, what it scores, and the proof that both are right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, Shaped

from cimrobust.data.dataset import DataSet
from cimrobust.data.decision import Score
from cimrobust.data.findings import check_clean
from cimrobust.data.task import Task
from cimrobust.engine.apart import check_samples_apart
from cimrobust.engine.batches import check_inputs
from cimrobust.engine.checks import (
    Checks,
    Parity,
    check_against_saved,
    corner_of,
)
from cimrobust.engine.converter_proof import Converters, open_converters
from cimrobust.engine.deployed_engine import (
    first_samples,
    float_tolerance,
    holds_weights,
    open_deployed,
    rounds_activations,
)
from cimrobust.engine.engine_protocol import Engine
from cimrobust.engine.judged_outputs import judge
from cimrobust.engine.liveness import check_liveness
from cimrobust.engine.opening_memory import opening_threads, require_opening
from cimrobust.engine.ort import OrtEngine
from cimrobust.freed_memory import return_freed
from cimrobust.onnx_io.at_hand import Shape, agreeing, at_hand
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.large_models import tensor_bytes
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.onnx_io.network import Network

if TYPE_CHECKING:
    from cimrobust.engine.kernel_engine import Weights
    from cimrobust.mapping.placement import Placement

_SAVED_SAMPLES = 128
_LIVENESS_SAMPLES = 16


@dataclass(frozen=True)
class Runtime:
    """A deployed network with its data; any weights can be scored on it, from many threads at once.

    Attributes:
        network: The network as loaded.
        scan: Its crossbar layers.
        deployed: The form that is run.
        at_hand: The same for the sizes of the data alone, without branches that they do not take:
            what gradients and bounds are computed from.
        plain: Runs it in onnxruntime alone, without converters.
        engine: Runs it as the profile says: `plain`, or crossbars with converters.
        task: Reads and scores the decision output of all samples.
        dataset: Samples in the graph's element types.
        clean: Score of the model file itself.
        clean_output: Decision output of the model file itself, samples first.
        quantised: Score of the quantised weights, no deviation, ideal converters.
        converters: What the converters do; None: the profile has none.
        batch_note: How samples are fed, and why; one sentence.
        checks: Parity, identity and liveness.
        warnings: What a reader of the results has to know.
    """

    network: Network
    scan: LayerScan
    deployed: Deployed
    at_hand: Deployed
    plain: OrtEngine
    engine: Engine
    task: Task
    dataset: DataSet
    clean: Score
    clean_output: Shaped[np.ndarray, "samples ..."]
    quantised: Score
    converters: Converters | None
    batch_note: str
    checks: Checks
    warnings: tuple[str, ...]

    @property
    def nominal(self) -> Score:
        """Score of the quantised weights, no deviation, converters as the profile says."""
        return self.quantised if self.converters is None else self.converters.score

    def outputs(
        self, weights: Weights, *, subset: Int64[np.ndarray, "some"] | None = None, threads: int = 1
    ) -> Shaped[np.ndarray, "some ..."]:
        """Return the decision output with these weights, samples first.

        Args:
            weights: Every mapped initializer, float32, own shape; or a chip that the engine drew.
            subset: Indices of the samples to run; None: all.
            threads: Batches run at the same time; the result does not depend on it.
        """
        inputs = self.dataset.inputs
        chosen = (
            inputs if subset is None else {name: array[subset] for name, array in inputs.items()}
        )
        return self.engine.run(weights, chosen, self.dataset.constants, threads=threads)

    def score(
        self, weights: Weights, *, subset: Int64[np.ndarray, "some"] | None = None, threads: int = 1
    ) -> Score:
        """Return the score with these weights; arguments as for `outputs`."""
        task = self.task if subset is None else replace(self.task, labels=self.task.labels[subset])
        return task.score(self.outputs(weights, subset=subset, threads=threads))


def open_network(
    network: Network,
    scan: LayerScan,
    placement: Placement,
    dataset: DataSet,
    *,
    calibration: DataSet | None = None,
    workers: int = 1,
) -> Runtime:
    """Deploy a network, prove that the deployed form is right, and score it clean and quantised.

    Args:
        network: The network as loaded.
        scan: Its crossbar layers.
        placement: Where they are stored.
        dataset: Samples and labels.
        calibration: Samples that converters take their ranges from; needed where the profile has
            converters.
        workers: Threads; no result depends on it.

    Raises:
        UsageError: The data set does not fit the graph, or there is no such decision output.
        ModelNotCoveredError: onnxruntime cannot run the model, or it gives other outputs every
            time; or it does not fit into memory.
        SelfCheckError: The deployed form is not the file's network, or does not follow its weights.
    """
    check_inputs(network.inputs, [*dataset.inputs, *dataset.constants])
    held = tensor_bytes(network.model)
    has_converters = placement.profile.needs_kernel
    needed = require_opening(network, scan, is_placed=True, has_converters=has_converters)
    workers = opening_threads(needed, workers)
    judged = judge(network, dataset, workers=workers)
    ready, task, clean_output = judged.dataset, judged.task, judged.output
    findings = check_clean(task, ready, clean_output)
    rounds, tolerance = rounds_activations(network, scan), float_tolerance(network)
    check_samples_apart(network, ready, clean_output, rounds=rounds, tolerance=tolerance)
    return_freed(held)
    engine, parity, batch_note = open_deployed(
        network,
        scan,
        ready,
        task,
        clean_output,
        str(ready.decision.output),
        holds=holds_weights(scan, placement),
    )
    specialised = at_hand(
        engine.deployed, sizes_at_hand(ready, calibration, has_batch=engine.feeding.mode != "none")
    )
    return_freed(held)
    checks = _run_checks(engine, specialised, placement, ready, parity, workers)
    return_freed(held)
    quantised = task.score(
        engine.run(placement.late_nominal(), ready.inputs, ready.constants, threads=workers)
    )
    chip: Engine = engine
    converters = None
    if placement.profile.needs_kernel:
        chip, converters = open_converters(
            engine, specialised, network, placement, ready, task, calibration, workers=workers
        )
    return Runtime(
        network=network,
        scan=scan,
        deployed=engine.deployed,
        at_hand=specialised,
        plain=engine,
        engine=chip,
        task=task,
        dataset=ready,
        clean=task.score(clean_output),
        clean_output=clean_output,
        quantised=quantised,
        converters=converters,
        batch_note=batch_note,
        checks=checks,
        warnings=(
            *findings,
            *_warnings(checks),
            *(() if converters is None else converters.warnings),
        ),
    )


def sizes_at_hand(
    dataset: DataSet, calibration: DataSet | None, *, has_batch: bool
) -> dict[str, Shape]:
    """Return the shapes of the inputs of every run.

    None for the number of samples, and where calibration samples have another size.
    """
    given = [data for data in (dataset, calibration) if data is not None]
    first, *others = [
        {
            name: ([None] if has_batch else []) + list(array.shape[1:])
            for name, array in data.inputs.items()
        }
        | {name: list(array.shape) for name, array in data.constants.items()}
        for data in given
    ]
    return agreeing(first, others[0]) if others else dict(first)


def _run_checks(
    engine: OrtEngine,
    specialised: Deployed,
    placement: Placement,
    dataset: DataSet,
    parity: Parity,
    workers: int,
) -> Checks:
    some, few = (
        first_samples(dataset.inputs, _SAVED_SAMPLES),
        first_samples(dataset.inputs, _LIVENESS_SAMPLES),
    )
    constants, held = dict(dataset.constants), tensor_bytes(engine.deployed.model)
    zero_deviation = check_against_saved(
        engine, placement.late_nominal(), some, constants, what="zero deviation"
    )
    return_freed(held)
    vertex = corner_of(placement, late=engine.deployed.late_weights is not None)
    at_corner = check_against_saved(
        engine, vertex, some, constants, what="a corner of the tolerance box"
    )
    return_freed(held)
    return Checks(
        original=parity,
        zero_deviation=zero_deviation,
        vertex=at_corner,
        liveness=check_liveness(
            engine,
            placement,
            few,
            constants,
            specialised=specialised,
            corner=vertex,
            workers=workers,
        ),
    )


def _warnings(checks: Checks) -> tuple[str, ...]:
    found = [
        f"The decision output does not depend on '{name}' on the samples tried: a dead layer."
        for name in checks.dead
    ]
    parity = checks.original
    if parity.differing_decisions:
        why = (
            "the deployed network multiplies dequantised float32 weights, so a sum on the edge"
            " between two levels may become the other one"
            if parity.tolerance is None
            else "sums are rounded in another order"
        )
        found.append(
            f"{parity.differing_decisions} of {parity.num_decisions} decisions of the deployed"
            f" network with the file's own weights differ from those of the file: {why}."
        )
    return tuple(found)
