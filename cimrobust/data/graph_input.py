"""What is known of a graph input, and whether samples fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from cimrobust.errors import UsageError

#: Orders of the axes of pictures, the sample axis counted: channels last to first, and back.
CHANNELS_MOVED = ([0, 3, 1, 2], [0, 2, 3, 1])


@runtime_checkable
class GraphInput(Protocol):
    """What is known of a graph input: name, element type and shape."""

    @property
    def name(self) -> str:
        """Name in the graph."""

    @property
    def dtype(self) -> str:
        """NumPy name of the element type."""

    @property
    def shape(self) -> tuple[int | str | None, ...] | None:
        """One entry an axis; None: unknown."""


def fit_flat(array: Shaped[np.ndarray, "..."], spec: GraphInput) -> Shaped[np.ndarray, "..."]:
    """Return table rows in the shape of the graph input where it says one; others unchanged.

    So are the numbers of one column, where the graph input has an axis of length 1 for it.
    """
    shape = spec.shape
    if (
        array.ndim not in (1, 2)
        or shape is None
        or len(shape) <= array.ndim
        or _other_size(array.shape[1:], shape)
        or not all(isinstance(length, int) for length in shape[1:])
    ):
        return array
    return array.reshape(array.shape[0], *(int(str(length)) for length in shape[1:]))


def fits_input(sample: Sequence[int], spec: GraphInput) -> bool:
    """Tell whether samples of a shape fit a graph input, with or without a batch axis in it."""
    if spec.shape is None:
        return True
    return any(
        len(expected) == len(sample)
        and all(not isinstance(e, int) or e == s for e, s in zip(expected, sample, strict=True))
        for expected in (spec.shape[1:], spec.shape)
    )


def check_shape(array: Shaped[np.ndarray, "..."], spec: GraphInput, where: str) -> None:
    """Raise UsageError unless samples fit the graph input, with or without a batch axis in it."""
    if spec.shape is None:
        return
    sample = array.shape[1:]
    if fits_input(sample, spec):
        return
    perm = channels_moved(sample, spec)
    advice = "add a reshape or transpose step"
    if perm is not None:
        advice = (
            f'add the step {{ op = "transpose", perm = {perm} }}, or let `cimrobust init` find it'
        )
    elif len(sample) == 1 and _other_size(sample, spec.shape):
        advice = "take out the columns that the network does not take"
    raise UsageError(
        f"samples must fit the graph input '{spec.name}' of shape {list(spec.shape)}, got samples"
        f" of shape {list(sample)} ({where}); {advice}"
    )


def _other_size(sample: Sequence[int], shape: Sequence[int | str | None]) -> bool:
    """Tell whether samples have another number of values than a graph input takes."""
    sizes = [length for length in shape[1:] if isinstance(length, int)]
    return len(sizes) == len(shape) - 1 and int(np.prod(sizes)) != int(np.prod(sample))


def channels_moved(sample: Sequence[int], spec: GraphInput) -> list[int] | None:
    """Return the order of axes that makes samples fit by moving their channels, sample axis first.

    None where that does not help.
    """
    if len(sample) != len(CHANNELS_MOVED[0]) - 1:
        return None
    return next(
        (
            perm
            for perm in CHANNELS_MOVED
            if fits_input([sample[axis - 1] for axis in perm[1:]], spec)
        ),
        None,
    )
