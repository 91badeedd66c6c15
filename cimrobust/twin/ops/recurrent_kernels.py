"""LSTM, GRU and RNN over time with derivatives written by hand, for the usual activations.

The derivatives of a cell are linear in the gradient of its state, so the factors are computed
for all steps at once, and what is left of a step on the way back is one product with the weights
and a few multiplications (docs/lab-book/performance.md has the cost beside torch.gru).

*Sums* [time, directions, batch, gates hidden] are the products of the inputs with their weights,
biases added; *states* are [directions, batch, hidden]. Every direction has its own order of time.
`alive`, bool [time, directions, batch, 1], tells which steps are within their sequence: behind
its end a state stays as it is.
"""

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
    room_for,
    step_masks,
    steps_of,
    weight_gradient,
    within_sequence,
)


def lstm_states(
    sums: Float[Tensor, "time directions batch sums"],
    r: Float[Tensor, "directions sums hidden"],
    h: Float[Tensor, "directions batch hidden"],
    c: Float[Tensor, "directions batch hidden"],
    alive: Bool[Tensor, "time directions batch 1"] | None,
) -> tuple[Float[Tensor, "time directions batch hidden"], Float[Tensor, "directions batch hidden"]]:
    """Return the states of an LSTM after every step, and its last memory.

    Args:
        sums: Of the input, output, forget and cell gate.
        r: Recurrent weights, [directions, 4 hidden, hidden].
        h: State before the first step.
        c: Memory before the first step.
        alive: Steps within their sequence; None: all.
    """
    states, memory, *_kept = _Lstm.apply(sums, r, h, c, alive)  # type: ignore[no-untyped-call]
    return states, memory


def rnn_states(
    sums: Float[Tensor, "time directions batch sums"],
    r: Float[Tensor, "directions sums hidden"],
    h: Float[Tensor, "directions batch hidden"],
    alive: Bool[Tensor, "time directions batch 1"] | None,
    *,
    relu: bool,
) -> Float[Tensor, "time directions batch hidden"]:
    """Return the states of an RNN after every step; with Tanh, or Relu.

    Args:
        sums: Sums of all steps.
        r: Recurrent weights, [directions, hidden, hidden].
        h: State before the first step.
        alive: Steps within their sequence; None: all.
        relu: Whether the activation is Relu.
    """
    found: tuple[Float[Tensor, "..."], ...] = _Rnn.apply(sums, r, h, alive, relu)  # type: ignore[no-untyped-call]
    return found[0]


class _Lstm(HandwrittenCell):
    """LSTM without peepholes; keeps gates and memories of all steps."""

    batch_axes = (2, None, 1, 1, 2)
    output_axes = (2, 1, 2, 2)

    @staticmethod
    def forward(
        sums: Float[Tensor, "time directions batch sums"],
        r: Float[Tensor, "directions sums hidden"],
        h: Float[Tensor, "directions batch hidden"],
        c: Float[Tensor, "directions batch hidden"],
        alive: Bool[Tensor, "time directions batch 1"] | None,
    ) -> Any:
        """Step through time."""
        size = h.shape[-1]
        states, gates, memories = (
            room_for(sums, size),
            room_for(sums, 4 * size),
            room_for(sums, size),
        )
        bounded = torch.empty_like(one_side(h))
        product, r, state, memory = product_of(h), one_side(r).mT, one_side(h), one_side(c)
        for x, gate, open_gates, entry, exit_, forget, cell, out, held, mask in zip(
            *map(steps_of, (sums, gates, gates[..., : 3 * size])),
            *map(steps_of, gates.chunk(4, -1)),
            *map(steps_of, (states, memories)),
            step_masks(alive, sums),
            strict=True,
        ):
            product(x, state, r, out=gate)
            open_gates.sigmoid_()
            cell.tanh_()
            torch.mul(forget, memory, out=held).addcmul_(entry, cell)
            torch.mul(exit_, torch.tanh(held, out=bounded), out=out)
            state, memory = kept_state(out, state, mask), kept_state(held, memory, mask)
        return states, memories[-1].clone(), gates, memories

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        keep_for_backward(ctx, inputs[1:5], (output[0], *output[2:]), visible=1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        grad: Float[Tensor, "time directions batch hidden"] | None,
        of_last: Float[Tensor, "directions batch hidden"] | None,
        *_others: Any,
    ) -> Any:
        """Return the gradients of sums, weights, first state and first memory."""
        r, h, c, alive, states, gates, memories = ctx.saved_tensors
        entry, exit_, forget, cell = gates.chunk(4, -1)
        earlier, bounded = torch.cat([c.unsqueeze(0), memories[:-1]]), torch.tanh(memories)
        into = within_sequence(exit_ * (1 - bounded * bounded), alive)
        at_exit = within_sequence(bounded * exit_ * (1 - exit_), alive)
        at_entry = within_sequence(cell * entry * (1 - entry), alive)
        at_forget = within_sequence(earlier * forget * (1 - forget), alive)
        at_cell = within_sequence(entry * (1 - cell * cell), alive)
        factors = torch.stack([at_entry, at_exit, at_forget, at_cell], -2)
        carried = forget if alive is None else torch.where(alive, forget, 1.0)
        parts, back = torch.empty_like(factors), one_side(r)
        ahead, memory = (
            one_side(torch.zeros_like(h)),
            one_side(gradient_or_zeros(of_last, c).clone()),
        )
        for of_state, deeper, carry, factor, exit_factor, part, at_out, flat, mask in zip(
            *(
                reversed(steps_of(value))
                for value in (
                    gradient_or_zeros(grad, states),
                    into,
                    carried,
                    factors,
                    at_exit,
                    parts,
                    parts[..., 1, :],
                    parts.flatten(-2),
                )
            ),
            reversed(step_masks(alive, states)),
            strict=True,
        ):
            total = of_state + ahead
            memory.addcmul_(total, deeper)
            torch.mul(memory.unsqueeze(-2), factor, out=part)
            torch.mul(total, exit_factor, out=at_out)
            memory.mul_(carry)
            ahead = flat @ back
            if mask is not None:
                ahead = torch.where(mask, ahead, total)
        before = torch.cat([h.unsqueeze(0), states[:-1]])
        of_r = weight_gradient(parts.flatten(-2), before)
        return parts.flatten(-2), of_r, ahead.reshape(h.shape), memory.reshape(c.shape), None


class _Rnn(HandwrittenCell):
    """RNN with Tanh or Relu."""

    batch_axes = (2, None, 1, 2)
    output_axes = (2,)

    @staticmethod
    def forward(
        sums: Float[Tensor, "time directions batch sums"],
        r: Float[Tensor, "directions sums hidden"],
        h: Float[Tensor, "directions batch hidden"],
        alive: Bool[Tensor, "time directions batch 1"] | None,
        relu: bool,
    ) -> Any:
        """Step through time."""
        states = room_for(sums, h.shape[-1])
        product, r, state = product_of(h), one_side(r).mT, one_side(h)
        for x, out, mask in zip(
            steps_of(sums), steps_of(states), step_masks(alive, sums), strict=True
        ):
            product(x, state, r, out=out)
            out.relu_() if relu else out.tanh_()
            state = kept_state(out, state, mask)
        return (states,)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        keep_for_backward(ctx, inputs[1:4], output, visible=1)
        ctx.relu = inputs[4]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "time directions batch hidden"] | None) -> Any:
        """Return the gradients of sums, weights and first state."""
        r, h, alive, states = ctx.saved_tensors
        slopes = (states > 0).to(states.dtype) if ctx.relu else 1 - states * states
        sums, back = torch.empty_like(states), one_side(r)
        slopes, ahead = within_sequence(slopes, alive), one_side(torch.zeros_like(h))
        steps = (
            reversed(steps_of(value)) for value in (gradient_or_zeros(grad, states), slopes, sums)
        )
        masks = reversed(step_masks(alive, states))
        for of_state, slope, out, mask in zip(*steps, masks, strict=True):
            total = of_state + ahead
            ahead = torch.mul(total, slope, out=out) @ back
            if mask is not None:
                ahead = torch.where(mask, ahead, total)
        before = torch.cat([h.unsqueeze(0), states[:-1]])
        return sums, weight_gradient(sums, before), ahead.reshape(h.shape), None, None
