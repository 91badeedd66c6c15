"""GRU over time with derivatives written by hand, as `recurrent_kernels` has LSTM and RNN."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cimrobust.twin.ops.recurrent_cell import (
    HandwrittenCell,
    gradient_or_zeros,
    keep_for_backward,
    kept_state,
    one_side,
    product_of,
    reversed_steps,
    room_for,
    step_masks,
    steps_of,
    weight_gradient,
    within_sequence,
)


def gru_states(
    sums: Float[Tensor, "time directions batch sums"],
    r: Float[Tensor, "directions sums hidden"],
    b: Float[Tensor, "directions hidden"] | None,
    h: Float[Tensor, "directions batch hidden"],
    alive: Bool[Tensor, "time directions batch 1"] | None,
) -> Float[Tensor, "time directions batch hidden"]:
    """Return the states of a GRU after every step, [time, directions, batch, hidden].

    Args:
        sums: Of the update, reset and hidden gate.
        r: Recurrent weights, [directions, 3 hidden, hidden].
        b: Recurrent bias of the hidden gate, [directions, hidden], where the reset gate acts
            behind the product; None: it acts before, and all biases are in the sums.
        h: State before the first step.
        alive: Steps within their sequence; None: all.
    """
    cell, weights = (_GruResetBefore, (r,)) if b is None else (_GruResetBehind, (r, b))
    found: tuple[Float[Tensor, "..."], ...] = cell.apply(sums, *weights, h, alive)  # type: ignore[no-untyped-call]
    return found[0]


class _GruResetBehind(HandwrittenCell):
    """GRU with linear_before_reset; keeps gates, new parts and their recurrent sums."""

    batch_axes = (2, None, None, 1, 2)
    output_axes = (2, 2, 2, 2)

    @staticmethod
    def forward(
        sums: Float[Tensor, "time directions batch sums"],
        r: Float[Tensor, "directions sums hidden"],
        b: Float[Tensor, "directions hidden"],
        h: Float[Tensor, "directions batch hidden"],
        alive: Bool[Tensor, "time directions batch 1"] | None,
    ) -> Any:
        """Step through time."""
        size = h.shape[-1]
        states, gates, news = room_for(sums, size), room_for(sums, 2 * size), room_for(sums, size)
        totals, behind = room_for(sums, 3 * size), 2 * size
        bias = torch.cat([b.new_zeros(len(b), behind), b], 1).unsqueeze(1)
        product, r, bias, state = product_of(h), one_side(r).mT, one_side(bias), one_side(h)
        for x, x_new, total, total_gates, total_new, gate, update, reset, new, out, mask in zip(
            *map(steps_of, (sums[..., :behind], sums[..., behind:], totals)),
            *map(steps_of, (totals[..., :behind], totals[..., behind:])),
            *map(steps_of, (gates, gates[..., :size], gates[..., size:], news, states)),
            step_masks(alive, sums),
            strict=True,
        ):
            product(bias, state, r, out=total)
            torch.add(x, total_gates, out=gate).sigmoid_()
            torch.addcmul(x_new, reset, total_new, out=new).tanh_()
            torch.lerp(new, state, update, out=out)
            state = kept_state(out, state, mask)
        return states, gates, news, totals[..., behind:].contiguous()

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        keep_for_backward(ctx, (inputs[1], inputs[3], inputs[4]), output, visible=1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "time directions batch hidden"] | None, *_others: Any
    ) -> Any:
        """Return the gradients of sums, weights, bias and first state."""
        r, h, alive, states, gates, news, totals = ctx.saved_tensors
        before = torch.cat([h.unsqueeze(0), states[:-1]])
        update, reset = gates.chunk(2, -1)
        inner = within_sequence((1 - update) * (1 - news * news), alive)
        of_update = within_sequence((before - news) * update * (1 - update), alive)
        of_reset = inner * within_sequence(totals * reset * (1 - reset), alive)
        factors = torch.stack([of_update, of_reset, inner * reset], -2)
        carried = update if alive is None else torch.where(alive, update, 1.0)
        parts, reached = torch.empty_like(factors), torch.empty_like(states)
        product, back = product_of(h), one_side(r)
        ahead, passed = one_side(torch.zeros_like(h)), one_side(torch.empty_like(h))
        for of_state, carry, factor, part, flat, total in reversed_steps(
            gradient_or_zeros(grad, states), carried, factors, parts, parts.flatten(-2), reached
        ):
            torch.add(of_state, ahead, out=total)
            torch.mul(total.unsqueeze(-2), factor, out=part)
            torch.mul(total, carry, out=passed)
            product(passed, flat, back, out=ahead)
        of_r, of_b = weight_gradient(parts.flatten(-2), before), parts[..., 2, :].sum((0, 2))
        torch.mul(reached, inner, out=parts[..., 2, :])
        return parts.flatten(-2), of_r, of_b, ahead.reshape(h.shape), None


class _GruResetBefore(HandwrittenCell):
    """GRU whose reset gate acts before the product; keeps gates and new parts."""

    batch_axes = (2, None, 1, 2)
    output_axes = (2, 2, 2)

    @staticmethod
    def forward(
        sums: Float[Tensor, "time directions batch sums"],
        r: Float[Tensor, "directions sums hidden"],
        h: Float[Tensor, "directions batch hidden"],
        alive: Bool[Tensor, "time directions batch 1"] | None,
    ) -> Any:
        """Step through time."""
        size = h.shape[-1]
        states, gates, news = room_for(sums, size), room_for(sums, 2 * size), room_for(sums, size)
        of_gates, of_new = one_side(r[:, : 2 * size]).mT, one_side(r[:, 2 * size :]).mT
        product, state = product_of(h), one_side(h)
        for x, x_new, gate, update, reset, new, out, mask in zip(
            *map(steps_of, (sums[..., : 2 * size], sums[..., 2 * size :])),
            *map(steps_of, (gates, gates[..., :size], gates[..., size:], news, states)),
            step_masks(alive, sums),
            strict=True,
        ):
            product(x, state, of_gates, out=gate).sigmoid_()
            product(x_new, reset * state, of_new, out=new).tanh_()
            torch.lerp(new, state, update, out=out)
            state = kept_state(out, state, mask)
        return states, gates, news

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        keep_for_backward(ctx, inputs[1:4], output, visible=1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "time directions batch hidden"] | None, *_others: Any
    ) -> Any:
        """Return the gradients of sums, weights and first state."""
        r, h, alive, states, gates, news = ctx.saved_tensors
        size = h.shape[-1]
        before = torch.cat([h.unsqueeze(0), states[:-1]])
        update, reset = gates.chunk(2, -1)
        inner = within_sequence((1 - update) * (1 - news * news), alive)
        of_update = within_sequence((before - news) * update * (1 - update), alive)
        of_reset = within_sequence(before * reset * (1 - reset), alive)
        carried = update if alive is None else torch.where(alive, update, 1.0)
        parts = torch.empty_like(gates).resize_(*gates.shape[:-1], 3 * size)
        product, r_gates, r_new = (
            product_of(h),
            one_side(r[:, : 2 * size]),
            one_side(r[:, 2 * size :]),
        )
        ahead = one_side(torch.zeros_like(h))
        for (
            of_state,
            in_new,
            in_reset,
            in_update,
            carry,
            opened,
            part,
            of_gates,
            new,
        ) in reversed_steps(
            gradient_or_zeros(grad, states),
            inner,
            of_reset,
            of_update,
            carried,
            reset,
            parts,
            parts[..., : 2 * size],
            parts[..., 2 * size :],
        ):
            total = of_state + ahead
            torch.mul(total, in_new, out=new)
            through = new @ r_new
            torch.mul(total, in_update, out=part[..., :size])
            torch.mul(through, in_reset, out=part[..., size : 2 * size])
            ahead = product(torch.addcmul(total * carry, through, opened), of_gates, r_gates)
        at_new = weight_gradient(parts[..., 2 * size :], reset * before)
        of_r = torch.cat([weight_gradient(parts[..., : 2 * size], before), at_new], 1)
        return parts, of_r, ahead.reshape(h.shape), None
