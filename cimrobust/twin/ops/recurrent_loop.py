"""LSTM, GRU and RNN with any settings, step by step through time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.twin.ops.recurrent_node import Cell


def by_loop(
    cell: Cell,
    x: Float[Tensor, "time batch inputs"],
    w: Float[Tensor, "directions sums inputs"],
    r: Float[Tensor, "directions sums hidden"],
    b: Float[Tensor, "directions biases"] | None,
    lengths: Int[Tensor, "batch"] | None,
    h: Float[Tensor, "directions batch hidden"],
    c: Float[Tensor, "directions batch hidden"],
    p: Float[Tensor, "directions peepholes"] | None,
) -> tuple[
    Float[Tensor, "time directions batch hidden"],
    Float[Tensor, "directions batch hidden"],
    Float[Tensor, "directions batch hidden"],
]:
    """Step through time; returns as `_by_torch`.

    Steps behind the end of a sequence give zeros and keep the state.
    """
    outputs, lasts, memories = [], [], []
    valid = None if lengths is None else alive_steps(lengths, x)
    for index, backwards in enumerate(cell.directions):
        step = _step(
            cell, index, r[index], None if b is None else b[index], None if p is None else p[index]
        )
        inputs = torch.matmul(x, w[index].t())
        if b is not None:
            inputs = inputs + b[index].chunk(2)[0]
        inputs = reversed_time(inputs, lengths) if backwards else inputs
        state, memory, steps = h[index], c[index], []
        for time in range(x.shape[0]):
            new, kept = step(inputs[time], state, memory)
            if valid is None:
                state, memory = new, kept
                steps.append(new)
                continue
            alive = valid[time]
            state, memory = torch.where(alive, new, state), torch.where(alive, kept, memory)
            steps.append(torch.where(alive, new, torch.zeros_like(new)))
        y = torch.stack(steps) if steps else x.new_zeros((0, *state.shape))
        outputs.append(reversed_time(y, lengths) if backwards else y)
        lasts.append(state)
        memories.append(memory)
    return torch.stack(outputs, 1), torch.stack(lasts), torch.stack(memories)


def alive_steps(
    lengths: Int[Tensor, "batch"], x: Float[Tensor, "time batch inputs"]
) -> Bool[Tensor, "time batch 1"]:
    """Return which steps are within their sequence, bool [time, batch, 1]."""
    steps = torch.arange(x.shape[0], device=x.device).reshape(-1, 1, 1)
    return steps < lengths.to(x.device).reshape(1, -1, 1)


def reversed_time(
    x: Float[Tensor, "time batch *units"], lengths: Int[Tensor, "batch"] | None
) -> Float[Tensor, "time batch *units"]:
    """Turn time round, within the length of each sequence; x [time, batch, ...]."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    ends = lengths.to(device=x.device, dtype=torch.int64).unsqueeze(0)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return torch.gather(x, 0, order.unsqueeze(-1).expand(x.shape))


def _step(
    cell: Cell,
    index: int,
    r: Float[Tensor, "sums hidden"],
    b: Float[Tensor, "_biases"] | None,
    p: Float[Tensor, "_biases"] | None,
) -> Callable[
    [Float[Tensor, "batch sums"], Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]],
    tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]],
]:
    """Return the function of one time step: (input part, h, c) to the new (h, c)."""
    functions, limit = cell.activations[index], cell.clip
    recurrent_bias = None if b is None else b.chunk(2)[1]

    def clipped(x: Float[Tensor, "batch units"]) -> Float[Tensor, "batch units"]:
        return x if limit is None else x.clamp(-limit, limit)

    def product(h: Float[Tensor, "batch hidden"]) -> Float[Tensor, "batch sums"]:
        y = torch.matmul(h, r.t())
        return y if recurrent_bias is None else y + recurrent_bias

    def lstm(
        x: Float[Tensor, "batch sums"],
        h: Float[Tensor, "batch hidden"],
        c: Float[Tensor, "batch hidden"],
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
        i, o, f, g = (x + product(h)).chunk(4, -1)
        # Peepholes in the file: input, output, forget gate.
        peep = (0.0, 0.0, 0.0) if p is None else p.chunk(3)
        gate = functions[0](clipped(i + peep[0] * c))
        keep = 1 - gate if cell.input_forget else functions[0](clipped(f + peep[2] * c))
        memory = keep * c + gate * functions[1](clipped(g))
        return functions[0](clipped(o + peep[1] * memory)) * functions[2](memory), memory

    def gru(
        x: Float[Tensor, "batch sums"],
        h: Float[Tensor, "batch hidden"],
        c: Float[Tensor, "batch hidden"],
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
        rows = cell.hidden
        if cell.linear_before_reset:
            total = product(h)
            z = functions[0](clipped(x[:, :rows] + total[:, :rows]))
            reset = functions[0](clipped(x[:, rows : 2 * rows] + total[:, rows : 2 * rows]))
            new = functions[1](clipped(x[:, 2 * rows :] + reset * total[:, 2 * rows :]))
        else:
            bias = r.new_zeros(3 * rows) if recurrent_bias is None else recurrent_bias
            total = torch.matmul(h, r[: 2 * rows].t()) + bias[: 2 * rows]
            z = functions[0](clipped(x[:, :rows] + total[:, :rows]))
            reset = functions[0](clipped(x[:, rows : 2 * rows] + total[:, rows:]))
            new = functions[1](
                clipped(
                    x[:, 2 * rows :] + torch.matmul(reset * h, r[2 * rows :].t()) + bias[2 * rows :]
                )
            )
        return (1 - z) * new + z * h, c

    def rnn(
        x: Float[Tensor, "batch sums"],
        h: Float[Tensor, "batch hidden"],
        c: Float[Tensor, "batch hidden"],
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"]]:
        return functions[0](clipped(x + product(h))), c

    return {"LSTM": lstm, "GRU": gru, "RNN": rnn}[cell.op]
