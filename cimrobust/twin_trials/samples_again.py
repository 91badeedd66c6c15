"""Some samples of a chip run again in onnxruntime, in the batches that a whole run has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int64, Shaped

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime


def run_again(
    runtime: Runtime,
    weights: Mapping[str, Shaped[np.ndarray, "..."]],
    wanted: Bool[np.ndarray, "samples"],
) -> tuple[Int64[np.ndarray, "chosen"], Shaped[np.ndarray, "chosen *outputs"]]:
    """Run all batches with a wanted sample, to the bits of a run of all samples.

    onnxruntime may round otherwise in another batch, so whole batches are run.

    Args:
        runtime: A network without converters.
        weights: One chip.
        wanted: Samples that are wanted, at least one.

    Returns:
        Which samples were run, in their order, and their decision output.
    """
    feeding, count = runtime.plain.feeding, len(wanted)
    inputs, constants = runtime.dataset.inputs, runtime.dataset.constants
    chosen, outputs = [], []
    with runtime.plain.open(weights) as network:
        for batch in feeding.plan(count):
            if not wanted[batch].any():
                continue
            samples = np.arange(batch.start, batch.stop)
            # What fills up the last batch of a fixed size is the beginning of all samples.
            fed = (
                np.arange(batch.start, batch.start + feeding.size) % count
                if feeding.mode == "fixed"
                else samples
            )
            made = network.run({name: array[fed] for name, array in inputs.items()}, constants)
            chosen.append(samples)
            outputs.append(made[: len(samples)])
    return np.concatenate(chosen), np.concatenate(outputs)
