"""Patterns between NumPy and torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def tensor_of(array: np.ndarray) -> Tensor:
    """Return an array as a torch tensor, a copy only where torch could not share it."""
    contiguous = np.ascontiguousarray(array)
    return torch.from_numpy(
        contiguous if contiguous.flags.writeable else contiguous.copy()
    ).reshape(array.shape)


def tensors_of(
    arrays: Mapping[str, np.ndarray], device: torch.device | None = None
) -> dict[str, Tensor]:
    """Return arrays as torch tensors by name, on a device; None: the processor."""
    return {
        name: tensor_of(array) if device is None else tensor_of(array).to(device)
        for name, array in arrays.items()
    }


def array_of(tensor: Tensor) -> np.ndarray:
    """Return a tensor, wherever it is, as an array."""
    return np.asarray(tensor.detach().cpu().numpy())
