"""Whether what a network makes of one sample stands apart from what it makes of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.available_memory import available_memory
from cimrobust.certify.refusal import NotBoundedError

if TYPE_CHECKING:
    from cimrobust.twin.to_torch import Twin

# Share of the free memory that tensors may take which are compared sample by sample.
_MOST_MEMORY = 0.4


@torch.no_grad()
def has_samples_in_front(
    twin: Twin,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    names: Sequence[str],
) -> bool:
    """Return whether every tensor has its samples in front; check that they stand apart there.

    Args:
        twin: The network.
        inputs: Graph inputs that hold samples.
        constants: Graph inputs that are the same for all samples.
        names: The tensors.

    Raises:
        NotBoundedError: A sample depends on another, or a tensor holds no numbers.
    """
    one = _first_samples(twin, inputs, constants, names, 1)
    if any(tensor.shape[:1] != (1,) for tensor in one.values()):
        return False
    count, sizes = _compared(sum(8 * t.numel() for t in one.values()), inputs)
    together = _first_samples(twin, inputs, constants, names, count)
    for size in sizes:
        part = one if size == 1 else _first_samples(twin, inputs, constants, names, size)
        for name in names:
            whole, some = together[name], part[name]
            if whole.shape[:1] != (count,) or some.shape[:1] != (size,):
                return False
            _check_numbers(name, whole)
            if not _is_same(whole[:size], some, whole):
                raise NotBoundedError(_mixed(name))
    return True


@torch.no_grad()
def check_samples_somewhere(
    twin: Twin,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    names: Sequence[str],
) -> None:
    """Check that every tensor of a batch is made of those of its samples, along whatever axis.

    Arguments and errors are those of `has_samples_in_front`.
    """
    one = _first_samples(twin, inputs, constants, names, 1)
    count, _ = _compared(sum(8 * t.numel() for t in one.values()), inputs)
    together = _first_samples(twin, inputs, constants, names, count)
    runs = [one, *(_samples(twin, inputs, constants, names, at, at + 1) for at in range(1, count))]
    for name in names:
        _check_numbers(name, together[name])
        if not _is_made_of(together[name], torch.stack([run[name] for run in runs])):
            raise NotBoundedError(_mixed(name))


def _is_made_of(whole: Shaped[Tensor, "..."], runs: Shaped[Tensor, "samples ..."]) -> bool:
    """Return whether a tensor of a batch is those of its samples, side by side along some axis."""
    shape = runs.shape[1:]
    for axis in range(runs.dim() - 1):
        if whole.shape != (*shape[:axis], len(runs) * shape[axis], *shape[axis + 1 :]):
            continue
        # Samples outside of what the axis counted already, or inside.
        for place in (axis, axis + 1):
            if _is_same(runs.movedim(0, place).reshape(whole.shape), whole, whole):
                return True
    return False


def _is_same(
    one: Shaped[Tensor, "*shape"], other: Shaped[Tensor, "*shape"], scale: Shaped[Tensor, "..."]
) -> bool:
    """Return whether two tensors are the same but for rounding."""
    if not one.is_floating_point():
        return bool(torch.equal(one, other))
    largest = float(scale.abs().nan_to_num(0.0, 0.0).max())
    return torch.allclose(one, other, rtol=1e-6, atol=1e-9 * (1.0 + largest))


def _check_numbers(name: str, tensor: Shaped[Tensor, "..."]) -> None:
    if bool(torch.isnan(tensor).any()) or not tensor.numel():
        found = "NaN" if tensor.numel() else "no elements"
        raise NotBoundedError(f"tensor '{name}' must hold numbers, got {found}")


def _mixed(name: str) -> str:
    return f"tensor '{name}' must not depend on other samples of its batch"


def _first_samples(
    twin: Twin,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    names: Sequence[str],
    count: int,
) -> dict[str, Shaped[Tensor, "..."]]:
    """Return tensors of the first samples."""
    return _samples(twin, inputs, constants, names, 0, count)


def _samples(
    twin: Twin,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    names: Sequence[str],
    start: int,
    stop: int,
) -> dict[str, Shaped[Tensor, "..."]]:
    """Return tensors of some samples, run together; of few, some are taken again.

    A batch as long as another axis, and no other, may be taken for that axis.
    """
    places = torch.arange(start, stop)
    some = {name: tensor[places % len(tensor)] for name, tensor in inputs.items()}
    return dict(twin({**some, **constants}, outputs=names))


def _compared(
    held: int, inputs: Mapping[str, Shaped[Tensor, "samples ..."]]
) -> tuple[int, tuple[int, ...]]:
    """Return how many samples are run together, and what they are compared with.

    Args:
        held: Bytes of all tensors of one sample.
        inputs: The samples; one alone is never run with others.

    Raises:
        NotBoundedError: Two samples and one do not fit into memory.
    """
    if min(len(tensor) for tensor in inputs.values()) == 1:
        return 1, (1,)
    free = _MOST_MEMORY * available_memory()
    if held * 9 <= free:
        return 5, (1, 3)
    count = 2
    if held * (count + 1) > free:
        raise NotBoundedError(
            f"the tensors of {count + 1} samples need about {held * (count + 1) / 1e9:.3g} GB of"
            f" memory in float64, and {free / 1e9:.3g} GB may be taken"
        )
    return count, (1,)
