"""Replay: the witness file, run as anyone would run it.

Only the number that comes out of this is reported.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.engine.original_file import run_original
from cimrobust.engine.reference_engine import check_against_reference
from cimrobust.errors import SelfCheckError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.save import save_model
from cimrobust.search.replay_tolerance import allowed_difference
from cimrobust.search.witness import MODEL_FILE, witness_model

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.decision import Score
    from cimrobust.data.task import Task
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.box import Box

_REFERENCE_SAMPLES = 16


def replay_file(path: Path, dataset: DataSet, task: Task, *, workers: int = 1) -> Score:
    """Load a model file, run it in a fresh session with the batch size it states, and score it.

    Args:
        path: The file; any model with the inputs and the decision output of the data set.
        dataset: Samples.
        task: Reads and scores the output.
        workers: Threads; the result does not depend on it.

    Raises:
        InputRefusedError: The file is corrupt.
        UsageError: Data set and file do not fit.
    """
    network = load_network(path)
    output = run_original(
        network, dataset.inputs, dataset.constants, output=dataset.decision.output, threads=workers
    )
    return task.score(output)


def replay_pattern(
    runtime: Runtime,
    box: Box,
    pattern: Mapping[str, Float32[np.ndarray, "..."]],
    *,
    workers: int = 1,
) -> Score:
    """Write the model of a pattern to a file and replay it."""
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        path = Path(folder) / MODEL_FILE
        save_model(witness_model(runtime, box.weights(pattern)), path)
        return replay_file(path, runtime.dataset, runtime.task, workers=workers)


def confirm(
    runtime: Runtime,
    box: Box,
    pattern: Mapping[str, Float32[np.ndarray, "..."]],
    found: Score,
    *,
    workers: int = 1,
) -> tuple[Score, str]:
    """Replay a pattern in an independent engine.

    Return the score of its model file and a sentence on how it relates to the score found.

    With converters the file, run in onnxruntime, has none: its score is compared with that of the
    same weights with ideal converters, and the products of the kernel are computed again in NumPy.

    Raises:
        SelfCheckError: They differ by more than the order of sums can explain.
    """
    replayed = replay_pattern(runtime, box, pattern, workers=workers)
    if not isinstance(runtime.engine, KernelEngine):
        return replayed, compare_replay(runtime, found, replayed)
    weights, dataset = box.weights(pattern), runtime.dataset
    plain = runtime.task.score(
        runtime.plain.run(weights, dataset.inputs, dataset.constants, threads=workers)
    )
    compare_replay(runtime, plain, replayed)
    few = {name: array[:_REFERENCE_SAMPLES] for name, array in dataset.inputs.items()}
    check = check_against_reference(runtime.engine, weights, few, dataset.constants)
    return (
        replayed,
        (
            f"On this chip {check.values} outputs of {check.products} products, converters"
            " included, were computed again in NumPy and are equal bit for bit. The model file has"
            f" no converters: plain onnxruntime gives it a score of {replayed.value:g}."
        ),
    )


def compare_replay(runtime: Runtime, engine: Score, replayed: Score) -> str:
    """Return a sentence on how the replayed score relates to the engine's.

    Raises:
        SelfCheckError: They differ by more than the order of sums can explain.
    """
    same = (
        "The model file, run in a fresh onnxruntime session with the batch size it states, gives"
        " the score of the trial engine"
    )
    if engine == replayed:
        return f"{same} exactly."
    difference = abs(engine.value - replayed.value)
    allowed = allowed_difference(
        engine.value,
        num_samples=replayed.num_samples,
        is_share=engine.count is not None,
        rounds=runtime.checks.original.tolerance is None,
    )
    if not difference <= allowed:
        raise SelfCheckError(
            f"replayed witness must give the score of the search, got {replayed.value:g} in place"
            f" of {engine.value:g}; report this model"
        )
    if engine.count is None or replayed.count is None:
        return f"{same} to {difference:.2g}: sums are rounded in another order."
    return (
        f"{same} but for {abs(engine.count - replayed.count)} decisions: sums are rounded in"
        " another order. The file's score is reported."
    )
