"""The file of the most probable failing chip: what each of its weights and devices deviates by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32
from safetensors.numpy import save

from cimrobust.files import write_whole

if TYPE_CHECKING:
    from cimrobust.reliability.likely_chip import LikelySearch

CHIP_FILE = "most_probable.safetensors"


def write_chip(path: Path, search: LikelySearch) -> None:
    """Write the chip that a search found, whole or not at all.

    For each mapped initializer NAME the float32 tensors ``NAME.nominal`` and ``NAME.deviation`` in
    its own shape, and ``NAME.latents`` [devices of a weight, weights]: the standard normal
    latent of every device, slices of the positive device first. The root of the sum of their
    squares over all layers is the reliability index.

    Args:
        path: The file.
        search: It found a chip.
    """
    assert search.chip is not None
    tensors: dict[str, Float32[np.ndarray, "..."]] = {}
    for layer in search.chips.layers:
        name = layer.tensor.initializer
        parts = {
            "nominal": layer.tensor.nominal,
            "deviation": search.chip.proof.deviations[name],
            "latents": layer.of(search.chip.latents),
        }
        tensors.update(
            {
                f"{name}.{part}": np.ascontiguousarray(array, dtype=np.float32)
                for part, array in parts.items()
            }
        )
    write_whole(path, save(tensors))
