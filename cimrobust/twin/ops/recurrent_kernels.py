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

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable


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
    cell = _GruResetBefore.apply(sums, r, h, alive) if b is None else None  # type: ignore[no-untyped-call]
    found: tuple[Float[Tensor, "..."], ...] = cell or _GruResetBehind.apply(sums, r, b, h, alive)  # type: ignore[no-untyped-call]
    return found[0]


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


class _Cell(torch.autograd.Function):
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


class _GruResetBehind(_Cell):
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
        states, gates, news = _room(sums, size), _room(sums, 2 * size), _room(sums, size)
        totals, behind = _room(sums, 3 * size), 2 * size
        bias = torch.cat([b.new_zeros(len(b), behind), b], 1).unsqueeze(1)
        product, r, bias, state = _product(h), _side(r).mT, _side(bias), _side(h)
        for x, x_new, total, total_gates, total_new, gate, update, reset, new, out, mask in zip(
            *map(_cut, (sums[..., :behind], sums[..., behind:], totals)),
            *map(_cut, (totals[..., :behind], totals[..., behind:])),
            *map(_cut, (gates, gates[..., :size], gates[..., size:], news, states)),
            _masks(alive, sums),
            strict=True,
        ):
            product(bias, state, r, out=total)
            torch.add(x, total_gates, out=gate).sigmoid_()
            torch.addcmul(x_new, reset, total_new, out=new).tanh_()
            torch.lerp(new, state, update, out=out)
            state = _kept(out, state, mask)
        return states, gates, news, totals[..., behind:].contiguous()

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        _keep(ctx, (inputs[1], inputs[3], inputs[4]), output, visible=1)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Float[Tensor, "time directions batch hidden"] | None, *_others: Any
    ) -> Any:
        """Return the gradients of sums, weights, bias and first state."""
        r, h, alive, states, gates, news, totals = ctx.saved_tensors
        before = torch.cat([h.unsqueeze(0), states[:-1]])
        update, reset = gates.chunk(2, -1)
        inner = _within((1 - update) * (1 - news * news), alive)
        of_update = _within((before - news) * update * (1 - update), alive)
        of_reset = inner * _within(totals * reset * (1 - reset), alive)
        factors = torch.stack([of_update, of_reset, inner * reset], -2)
        carried = update if alive is None else torch.where(alive, update, 1.0)
        parts, reached = torch.empty_like(factors), torch.empty_like(states)
        product, back = _product(h), _side(r)
        ahead, passed = _side(torch.zeros_like(h)), _side(torch.empty_like(h))
        for of_state, carry, factor, part, flat, total in _reversed_steps(
            _given(grad, states), carried, factors, parts, parts.flatten(-2), reached
        ):
            torch.add(of_state, ahead, out=total)
            torch.mul(total.unsqueeze(-2), factor, out=part)
            torch.mul(total, carry, out=passed)
            product(passed, flat, back, out=ahead)
        of_r, of_b = _weight_gradient(parts.flatten(-2), before), parts[..., 2, :].sum((0, 2))
        torch.mul(reached, inner, out=parts[..., 2, :])
        return parts.flatten(-2), of_r, of_b, ahead.reshape(h.shape), None


class _GruResetBefore(_Cell):
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
        states, gates, news = _room(sums, size), _room(sums, 2 * size), _room(sums, size)
        of_gates, of_new = _side(r[:, : 2 * size]).mT, _side(r[:, 2 * size :]).mT
        product, state = _product(h), _side(h)
        for x, x_new, gate, update, reset, new, out, mask in zip(
            *map(_cut, (sums[..., : 2 * size], sums[..., 2 * size :])),
            *map(_cut, (gates, gates[..., :size], gates[..., size:], news, states)),
            _masks(alive, sums),
            strict=True,
        ):
            product(x, state, of_gates, out=gate).sigmoid_()
            product(x_new, reset * state, of_new, out=new).tanh_()
            torch.lerp(new, state, update, out=out)
            state = _kept(out, state, mask)
        return states, gates, news

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        _keep(ctx, inputs[1:4], output, visible=1)

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
        inner = _within((1 - update) * (1 - news * news), alive)
        of_update = _within((before - news) * update * (1 - update), alive)
        of_reset = _within(before * reset * (1 - reset), alive)
        carried = update if alive is None else torch.where(alive, update, 1.0)
        parts = torch.empty_like(gates).resize_(*gates.shape[:-1], 3 * size)
        product, r_gates, r_new = _product(h), _side(r[:, : 2 * size]), _side(r[:, 2 * size :])
        ahead = _side(torch.zeros_like(h))
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
        ) in _reversed_steps(
            _given(grad, states),
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
        at_new = _weight_gradient(parts[..., 2 * size :], reset * before)
        of_r = torch.cat([_weight_gradient(parts[..., : 2 * size], before), at_new], 1)
        return parts, of_r, ahead.reshape(h.shape), None


class _Lstm(_Cell):
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
        states, gates, memories = _room(sums, size), _room(sums, 4 * size), _room(sums, size)
        bounded = torch.empty_like(_side(h))
        product, r, state, memory = _product(h), _side(r).mT, _side(h), _side(c)
        for x, gate, open_gates, entry, exit_, forget, cell, out, held, mask in zip(
            *map(_cut, (sums, gates, gates[..., : 3 * size])),
            *map(_cut, gates.chunk(4, -1)),
            *map(_cut, (states, memories)),
            _masks(alive, sums),
            strict=True,
        ):
            product(x, state, r, out=gate)
            open_gates.sigmoid_()
            cell.tanh_()
            torch.mul(forget, memory, out=held).addcmul_(entry, cell)
            torch.mul(exit_, torch.tanh(held, out=bounded), out=out)
            state, memory = _kept(out, state, mask), _kept(held, memory, mask)
        return states, memories[-1].clone(), gates, memories

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        _keep(ctx, inputs[1:5], (output[0], *output[2:]), visible=1)

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
        into = _within(exit_ * (1 - bounded * bounded), alive)
        at_exit = _within(bounded * exit_ * (1 - exit_), alive)
        at_entry = _within(cell * entry * (1 - entry), alive)
        at_forget = _within(earlier * forget * (1 - forget), alive)
        at_cell = _within(entry * (1 - cell * cell), alive)
        factors = torch.stack([at_entry, at_exit, at_forget, at_cell], -2)
        carried = forget if alive is None else torch.where(alive, forget, 1.0)
        parts, back = torch.empty_like(factors), _side(r)
        ahead, memory = _side(torch.zeros_like(h)), _side(_given(of_last, c).clone())
        for of_state, deeper, carry, factor, exit_factor, part, at_out, flat, mask in zip(
            *(
                reversed(_cut(value))
                for value in (
                    _given(grad, states),
                    into,
                    carried,
                    factors,
                    at_exit,
                    parts,
                    parts[..., 1, :],
                    parts.flatten(-2),
                )
            ),
            reversed(_masks(alive, states)),
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
        of_r = _weight_gradient(parts.flatten(-2), before)
        return parts.flatten(-2), of_r, ahead.reshape(h.shape), memory.reshape(c.shape), None


class _Rnn(_Cell):
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
        states = _room(sums, h.shape[-1])
        product, r, state = _product(h), _side(r).mT, _side(h)
        for x, out, mask in zip(_cut(sums), _cut(states), _masks(alive, sums), strict=True):
            product(x, state, r, out=out)
            out.relu_() if relu else out.tanh_()
            state = _kept(out, state, mask)
        return (states,)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...]
    ) -> None:
        """Keep what the way back needs."""
        _keep(ctx, inputs[1:4], output, visible=1)
        ctx.relu = inputs[4]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Float[Tensor, "time directions batch hidden"] | None) -> Any:
        """Return the gradients of sums, weights and first state."""
        r, h, alive, states = ctx.saved_tensors
        slopes = (states > 0).to(states.dtype) if ctx.relu else 1 - states * states
        sums, back = torch.empty_like(states), _side(r)
        slopes, ahead = _within(slopes, alive), _side(torch.zeros_like(h))
        steps = (reversed(_cut(value)) for value in (_given(grad, states), slopes, sums))
        masks = reversed(_masks(alive, states))
        for of_state, slope, out, mask in zip(*steps, masks, strict=True):
            total = of_state + ahead
            ahead = torch.mul(total, slope, out=out) @ back
            if mask is not None:
                ahead = torch.where(mask, ahead, total)
        before = torch.cat([h.unsqueeze(0), states[:-1]])
        return sums, _weight_gradient(sums, before), ahead.reshape(h.shape), None, None


def _keep(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Float[Tensor, "..."], ...], *, visible: int
) -> None:
    """Save tensors for the way back; outputs behind the first `visible` ones have no gradient."""
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(*output[visible:])
    ctx.set_materialize_grads(False)


def _room(
    sums: Float[Tensor, "time directions batch sums"], size: int
) -> Float[Tensor, "time directions batch size"]:
    """Return memory for `size` values of every step, direction and sample."""
    return sums.new_empty((*sums.shape[:-1], size))


def _side(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return weights or states without the axis of directions where there is one direction."""
    return value.squeeze(0) if len(value) == 1 else value


def _cut(value: Shaped[Tensor, "time directions *sides"]) -> tuple[Shaped[Tensor, "..."], ...]:
    """Return the steps of a tensor, each as `_side` has it."""
    return (value.squeeze(1) if value.shape[1] == 1 else value).unbind(0)


def _product(state: Float[Tensor, "..."]) -> Any:
    """Return the function that adds a product to a term, for the axes that `_side` leaves."""
    return torch.addmm if len(state) == 1 else torch.baddbmm


def _masks(
    alive: Bool[Tensor, "..."] | None, steps: Float[Tensor, "..."]
) -> tuple[Bool[Tensor, "..."] | None, ...]:
    return (None,) * len(steps) if alive is None else _cut(alive)


def _kept(
    new: Float[Tensor, "*shape"], old: Float[Tensor, "*shape"], mask: Bool[Tensor, "..."] | None
) -> Float[Tensor, "*shape"]:
    """Put the old state back where a sequence has ended, in place; return the state."""
    return new if mask is None else new.copy_(torch.where(mask, new, old))


def _within(
    factors: Float[Tensor, "*shape"], alive: Bool[Tensor, "..."] | None
) -> Float[Tensor, "*shape"]:
    """Return factors that are 0 behind the end of a sequence, whatever stands there."""
    return factors if alive is None else factors.masked_fill(~alive, 0.0)


def _given(
    grad: Float[Tensor, "*shape"] | None, like: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    return torch.zeros_like(like) if grad is None else grad


def _reversed_steps(*values: Float[Tensor, "..."]) -> Any:
    return zip(*(reversed(_cut(value)) for value in values), strict=True)


def _weight_gradient(
    sums: Float[Tensor, "time directions batch sums"],
    states: Float[Tensor, "time directions batch states"],
) -> Float[Tensor, "directions sums states"]:
    """Return the gradient of weights [directions, sums, states], added up over time and batch."""
    left, right = (value.transpose(0, 1).flatten(1, 2) for value in (sums, states))
    return left.mT @ right
