"""What recurrent cells with derivatives written by hand share.

Shapes are those of `recurrent_kernels`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


class HandwrittenCell(torch.autograd.Function):
    """What the cells share: under torch.vmap, the runs join the batch.

    Where the weights differ from run to run, the runs join the directions instead.
    """

    #: Axis of the batch in every tensor argument; None: weights, directions first.
    batch_axes: ClassVar[tuple[int | None, ...]]
    #: The same of the outputs.
    output_axes: ClassVar[tuple[int, ...]]

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        """Run many at once; see torch.autograd.Function."""
        runs, known = info.batch_size, tuple(zip(args, in_dims, cls.batch_axes, strict=False))
        differ = any(axis is None and dim is not None for _value, dim, axis in known)
        joined = [
            (
                value
                if value is None or (axis is None and not differ)
                else _joined(value, dim, 0 if axis is None else axis - differ, runs)
            )
            for value, dim, axis in known
        ]
        outputs = cls.apply(*joined, *args[len(known) :])  # type: ignore[no-untyped-call]
        axes = tuple(axis - differ for axis in cls.output_axes)
        split = (
            value.unflatten(axis, (runs, -1)) for value, axis in zip(outputs, axes, strict=True)
        )
        return tuple(split), axes


def _joined(
    value: Float[Tensor, "..."] | Bool[Tensor, "..."], dim: int | None, axis: int, runs: int
) -> Float[Tensor, "..."] | Bool[Tensor, "..."]:
    """Return a tensor with the axis of runs `dim` (None: it has none) joined with another."""
    if dim is not None:
        return value.movedim(dim, axis).flatten(axis, axis + 1)
    shape = (*value.shape[:axis], runs, *value.shape[axis:])
    return value.unsqueeze(axis).expand(shape).flatten(axis, axis + 1)


def keep_for_backward(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...], *, visible: int
) -> None:
    """Save tensors for the way back; outputs behind the first `visible` ones have no gradient."""
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(*output[visible:])
    ctx.set_materialize_grads(False)


def room_for(
    sums: Float[Tensor, "time directions batch sums"], size: int
) -> Float[Tensor, "time directions batch size"]:
    """Return memory for `size` values of every step, direction and sample."""
    return sums.new_empty((*sums.shape[:-1], size))


def one_side(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return weights or states without the axis of directions where there is one direction."""
    return value.squeeze(0) if len(value) == 1 else value


def steps_of(value: Shaped[Tensor, "time directions *sides"]) -> tuple[Shaped[Tensor, "..."], ...]:
    """Return the steps of a tensor, each as `one_side` has it."""
    return (value.squeeze(1) if value.shape[1] == 1 else value).unbind(0)


def product_of(state: Float[Tensor, "..."]) -> Any:
    """Return the function that adds a product to a term, for the axes that `one_side` leaves."""
    return torch.addmm if len(state) == 1 else torch.baddbmm


def step_masks(
    alive: Bool[Tensor, "..."] | None, steps: Float[Tensor, "..."]
) -> tuple[Bool[Tensor, "..."] | None, ...]:
    """Return which samples are within their sequence at every step; None: all are."""
    return (None,) * len(steps) if alive is None else steps_of(alive)


def kept_state(
    new: Float[Tensor, "*shape"], old: Float[Tensor, "*shape"], mask: Bool[Tensor, "..."] | None
) -> Float[Tensor, "*shape"]:
    """Put the old state back where a sequence has ended, in place; return the state."""
    return new if mask is None else new.copy_(torch.where(mask, new, old))


def within_sequence(
    factors: Float[Tensor, "*shape"], alive: Bool[Tensor, "..."] | None
) -> Float[Tensor, "*shape"]:
    """Return factors that are 0 behind the end of a sequence, whatever stands there."""
    return factors if alive is None else factors.masked_fill(~alive, 0.0)


def gradient_or_zeros(
    grad: Float[Tensor, "*shape"] | None, like: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return a gradient; zeros like a tensor where there is none."""
    return torch.zeros_like(like) if grad is None else grad


def reversed_steps(*values: Float[Tensor, "..."]) -> Any:
    """Yield the steps of some tensors side by side, from the last to the first."""
    return zip(*(reversed(steps_of(value)) for value in values), strict=True)


def weight_gradient(
    sums: Float[Tensor, "time directions batch sums"],
    states: Float[Tensor, "time directions batch states"],
) -> Float[Tensor, "directions sums states"]:
    """Return the gradient of weights [directions, sums, states], added up over time and batch."""
    left, right = (value.transpose(0, 1).flatten(1, 2) for value in (sums, states))
    return left.mT @ right
