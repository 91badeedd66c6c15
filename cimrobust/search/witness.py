"""The evidence.

A model file with the worst weights inside, and a file with the pattern and its box.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.mapping.pattern_file import write_pattern
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.save import Model, save_model, weighted

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.box import Box

MODEL_FILE = "worst_case.onnx"
DEVIATIONS_FILE = "deviations.safetensors"
SAFETY_FILE = "safety_class.safetensors"


def write_witness(
    folder: Path, runtime: Runtime, box: Box, deviations: Mapping[str, Float32[np.ndarray, "..."]]
) -> None:
    """Write both files of a pattern into a folder, each whole or not at all.

    Args:
        folder: Existing folder.
        runtime: The network.
        box: The tolerance box.
        deviations: A pattern in it.

    Raises:
        SelfCheckError: The pattern leaves the box.
    """
    write_pattern(folder / DEVIATIONS_FILE, box, deviations)
    save_model(witness_model(runtime, box.weights(deviations)), folder / MODEL_FILE)


def witness_model(runtime: Runtime, weights: Mapping[str, Float32[np.ndarray, "..."]]) -> Model:
    """Return the network with these weights, and inputs and outputs as in its file."""
    engine = runtime.engine
    deployed = deploy(
        runtime.network,
        runtime.scan,
        widen=False,
        has_batch=engine.feeding.mode != "none",
        holds=False,
    )
    return weighted(deployed, weights)
