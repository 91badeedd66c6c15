"""That a chip fails, shown in the deployed network and in its model file.

Nothing a search says about a chip is believed before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from cimrobust.data.decision import Score
from cimrobust.engine.latent import REACH, LatentChips
from cimrobust.mapping.box import Box, box_of
from cimrobust.search.witness_replay import replay_pattern

if TYPE_CHECKING:
    from cimrobust.data.failure import FailureScore
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement

# A chip that fails in the deployed network by a hair may pass where sums are rounded in another
# order: it is then moved outward by a thousandth, at most ten times.
_OUTWARD = 1.001
_MOVES = 10


@dataclass(frozen=True)
class Proof:
    """A failing chip, run.

    Attributes:
        latents: Of all devices, float32 [size].
        norm: Their norm.
        deviations: Of the weights, float32 by initializer in its own shape, within the support of
            the distribution.
        score: Score in the deployed network, converters included.
        file_score: Score of the model file in a fresh onnxruntime session; None with converters,
            which a file does not have.
    """

    latents: Float32[np.ndarray, "devices"]
    norm: float
    deviations: Mapping[str, Float32[np.ndarray, "..."]]
    score: Score
    file_score: Score | None


def prove(
    runtime: Runtime,
    placement: Placement,
    chips: LatentChips,
    latents: Float32[np.ndarray, "devices"],
    score: FailureScore,
    *,
    workers: int = 1,
) -> Proof | None:
    """Run a chip in the deployed network, and without converters its model file in a fresh session.

    Return what it scores, None where it does not fail.

    Args:
        runtime: The network and its data.
        placement: The devices.
        chips: Makes chips.
        latents: The chip, float32 [size].
        score: Of an output; 0 or less where the chip fails.
        workers: Threads.

    Raises:
        SelfCheckError: A deviation leaves the tolerance of a write-verified device.
    """
    box = box_of(placement)
    for _ in range(_MOVES):
        deviations = deviations_of(placement, box, chips.weights(latents))
        made = chips.program(latents) if runtime.converters is not None else box.weights(deviations)
        output = runtime.outputs(made, threads=workers)
        reached = runtime.task.score(output)
        if score(output) <= 0.0:
            file_score = (
                None
                if runtime.converters is not None
                else replay_pattern(runtime, box, deviations, workers=workers)
            )
            if file_score is None or score.misses(file_score):
                return Proof(
                    latents,
                    float(np.linalg.norm(latents.astype(np.float64))),
                    deviations,
                    reached,
                    file_score,
                )
        latents = np.clip(latents * np.float32(_OUTWARD), -REACH, REACH).astype(np.float32)
    return None


def deviations_of(
    placement: Placement, box: Box, weights: Mapping[str, Float32[np.ndarray, "..."]]
) -> dict[str, Float32[np.ndarray, "..."]]:
    """Return the deviations of weights.

    Those of write-verified devices are checked against their tolerance.

    Raises:
        SelfCheckError: One leaves it by more than rounding.
    """
    deviations = {
        name: np.asarray(array - box.nominal[name], dtype=np.float32)
        for name, array in weights.items()
    }
    if not placement.is_bounded:
        return deviations
    inside = box.clip(deviations)  # nominal + deviation was rounded
    for name, array in deviations.items():
        allowed = 2e-7 * float(np.abs(weights[name]).max(initial=0.0))
        if float(np.abs(array - inside[name]).max(initial=0.0)) > allowed:
            box.check(deviations, origin="most probable failing chip")
    return inside
