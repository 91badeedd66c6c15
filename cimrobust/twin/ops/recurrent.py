"""LSTM, GRU and RNN.

Kernels of our own for the usual settings (on an accelerator torch's), a loop over time for all
others.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.nn.functional import linear

from cimrobust.twin.ops.converter_registry import Kernel, Node, operator
from cimrobust.twin.ops.gru_kernels import gru_states
from cimrobust.twin.ops.recurrent_kernels import lstm_states, rnn_states
from cimrobust.twin.ops.recurrent_loop import alive_steps, by_loop, reversed_time
from cimrobust.twin.ops.recurrent_node import GATES, TORCH_ORDER, Cell, read_cell


@operator("LSTM", "GRU", "RNN", since=7)
def recurrent(node: Node) -> Kernel:
    """LSTM, GRU and RNN of opset 7 and on.

    x [time, batch, in], w [directions, gates hidden, in], r [directions, gates hidden, hidden], b
    [directions, 2 gates hidden]; with layout 1 the batch comes first in x, the states and all
    outputs.
    """
    cell, batch_first = read_cell(node), bool(node.get("layout", 0))

    def run(
        x: Float[Tensor, "_ _ inputs"],
        w: Float[Tensor, "directions sums inputs"],
        r: Float[Tensor, "directions sums hidden"],
        b: Float[Tensor, "directions biases"] | None = None,
        lengths: Int[Tensor, "batch"] | None = None,
        h: Float[Tensor, "_ _ hidden"] | None = None,
        c: Float[Tensor, "_ _ hidden"] | None = None,
        p: Float[Tensor, "directions peepholes"] | None = None,
    ) -> tuple[Float[Tensor, "..."], ...]:
        if batch_first:
            x, h, c = (
                x.transpose(0, 1),
                h if h is None else h.transpose(0, 1),
                c if c is None else c.transpose(0, 1),
            )
        state = (len(cell.directions), x.shape[1], cell.hidden)
        h = x.new_zeros(state) if h is None else h
        c = x.new_zeros(state) if c is None else c
        if lengths is not None and _all_full(lengths, x.shape[0]):
            lengths = None
        if (
            lengths is not None
        ):  # onnxruntime gives zeros as the last state of a sequence without steps
            started = (lengths > 0).to(x.device).reshape(1, -1, 1)
            h, c = h * started, c * started
            x = torch.where(
                alive_steps(lengths, x), x, torch.zeros_like(x)
            )  # what stands there may be anything
        if not cell.is_usual or p is not None or not x.shape[0]:
            y, last, memory = by_loop(cell, x, w, r, b, lengths, h, c, p)
        elif lengths is None and _torch_is_faster(cell, x):
            y, last, memory = _by_torch(cell, x, w, r, b, h, c)
        else:
            y, last, memory = _by_kernels(cell, x, w, r, b, lengths, h, c)
        if batch_first:
            y, last, memory = y.permute(2, 0, 1, 3), last.transpose(0, 1), memory.transpose(0, 1)
        return (y, last, memory) if cell.op == "LSTM" else (y, last)

    return run


def _torch_is_faster(cell: Cell, x: Float[Tensor, "time batch inputs"]) -> bool:
    """Tell whether torch has a kernel that is not a loop of its own.

    All cells on an accelerator, LSTM in float32 on a processor.
    """
    if not cell.is_torch or is_batchedtensor(x):
        return False
    has_lstm: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return x.is_cuda or (has_lstm and cell.op == "LSTM" and x.dtype == torch.float32)


def _all_full(lengths: Int[Tensor, "batch"], steps: int) -> bool:
    """Tell whether no sequence is shorter than the input.

    Where runs share a pass, torch cannot know.
    """
    return not is_batchedtensor(lengths) and bool((lengths == steps).all())


def _by_kernels(
    cell: Cell,
    x: Float[Tensor, "time batch inputs"],
    w: Float[Tensor, "directions sums inputs"],
    r: Float[Tensor, "directions sums hidden"],
    b: Float[Tensor, "directions biases"] | None,
    lengths: Int[Tensor, "batch"] | None,
    h: Float[Tensor, "directions batch hidden"],
    c: Float[Tensor, "directions batch hidden"],
) -> tuple[
    Float[Tensor, "time directions batch hidden"],
    Float[Tensor, "directions batch hidden"],
    Float[Tensor, "directions batch hidden"],
]:
    """Run the kernels of this package; returns as `_by_torch`, and with lengths as `by_loop`."""
    behind = cell.op == "GRU" and cell.linear_before_reset
    sums = []
    for index, backwards in enumerate(cell.directions):
        inputs = reversed_time(x, lengths) if backwards else x
        sums.append(
            linear(inputs, w[index], None if b is None else _input_bias(b[index], behind=behind))
        )
    stacked = torch.stack(sums, 1)
    alive = (
        None
        if lengths is None
        else alive_steps(lengths, x).unsqueeze(1).expand(*stacked.shape[:3], 1)
    )
    if cell.op == "LSTM":
        states, c = lstm_states(stacked, r, h, c, alive)
    elif cell.op == "GRU":
        of_new = (
            None
            if not behind
            else r.new_zeros(r.shape[0], cell.hidden)
            if b is None
            else b[:, 5 * cell.hidden :]
        )
        states = gru_states(stacked, r, of_new, h, alive)
    else:
        states = rnn_states(stacked, r, h, alive, relu=cell.names[0] == "relu")
    y = states if alive is None else torch.where(alive, states, torch.zeros_like(states))
    if True in cell.directions:
        parts = y.unbind(1)
        turned = [
            reversed_time(part, lengths) if back else part
            for part, back in zip(parts, cell.directions, strict=True)
        ]
        y = torch.stack(turned, 1)
    return y, states[-1], c


def _input_bias(b: Float[Tensor, "biases"], *, behind: bool) -> Float[Tensor, "sums"]:
    """Return what is added to the products of the inputs of one direction.

    All biases, but for a GRU's recurrent one behind its reset gate.
    """
    of_inputs, of_states = b.chunk(2)
    if not behind:
        return of_inputs + of_states
    gates = len(of_states) // 3 * 2
    return of_inputs + torch.cat([of_states[:gates], torch.zeros_like(of_states[gates:])])


def _by_torch(
    cell: Cell,
    x: Float[Tensor, "time batch inputs"],
    w: Float[Tensor, "directions sums inputs"],
    r: Float[Tensor, "directions sums hidden"],
    b: Float[Tensor, "directions biases"] | None,
    h: Float[Tensor, "directions batch hidden"],
    c: Float[Tensor, "directions batch hidden"],
) -> tuple[
    Float[Tensor, "time directions batch hidden"],
    Float[Tensor, "directions batch hidden"],
    Float[Tensor, "directions batch hidden"],
]:
    """Run torch's fused kernels; returns y [time, directions, batch, hidden], last h and last c."""
    order, gates = TORCH_ORDER[cell.op], GATES[cell.op]

    def reordered(stack: Float[Tensor, "*weight"]) -> Float[Tensor, "*weight"]:
        parts = stack.chunk(gates)
        return stack if gates == 1 else torch.cat([parts[index] for index in order])

    flat: list[Float[Tensor, "..."]] = []
    for index in range(len(cell.directions)):
        flat += [reordered(w[index]), reordered(r[index])]
        if b is not None:
            flat += [reordered(half) for half in b[index].chunk(2)]
    both, backwards = len(cell.directions) == 2, cell.directions == (True,)
    x = x.flip(0) if backwards else x
    h = h.contiguous()
    rest = (flat, b is not None, 1, 0.0, False, both, False)
    if cell.op == "LSTM":
        y, last, c = torch.lstm(x, (h, c.contiguous()), *rest)
    elif cell.op == "GRU":
        y, last = torch.gru(x, h, *rest)
    else:
        function = torch.rnn_relu if cell.names[0] == "relu" else torch.rnn_tanh
        y, last = function(x, h, *rest)
    y = y.flip(0) if backwards else y
    y = y.reshape(*y.shape[:2], len(cell.directions), cell.hidden).transpose(1, 2)
    return y, last, c
