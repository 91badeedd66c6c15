"""Patterns between NumPy and torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor


def tensor_of(array: Shaped[np.ndarray, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Return an array as a torch tensor, a copy only where torch could not share it."""
    contiguous = np.ascontiguousarray(array)
    return torch.from_numpy(
        contiguous if contiguous.flags.writeable else contiguous.copy()
    ).reshape(array.shape)


def tensors_of(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], device: torch.device | None = None
) -> dict[str, Shaped[Tensor, "..."]]:
    """Return arrays as torch tensors by name, on a device; None: the processor."""
    return {
        name: tensor_of(array) if device is None else tensor_of(array).to(device)
        for name, array in arrays.items()
    }


def shared_tensors(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], device: torch.device | None = None
) -> dict[str, Shaped[Tensor, "..."]]:
    """Return arrays that nobody may write to as torch tensors that nobody may write to.

    As `tensors_of`, without a copy of those that are read-only: as a box, they are as large as the
    network.
    """
    return tensors_of({name: _unlocked(array) for name, array in arrays.items()}, device)


def _unlocked(array: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Return a view of an array that says it can be written to, since torch knows no other kind."""
    if array.flags.writeable or not array.flags.c_contiguous or array.size == 0:
        return array
    return np.asarray(_Unlocked(array))


class _Unlocked:
    """The memory of an array, which it keeps alive."""

    def __init__(self, array: Shaped[np.ndarray, "..."]) -> None:
        self._array = array
        place = array.__array_interface__
        self.__array_interface__ = {**place, "data": (place["data"][0], False)}


def array_of(tensor: Shaped[Tensor, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Return a tensor, wherever it is, as an array."""
    return np.asarray(tensor.detach().cpu().numpy())
