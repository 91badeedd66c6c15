"""LSTM, GRU and RNN.

Kernels of our own for the usual settings (on an accelerator torch's), a loop over time for all
others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.nn.functional import linear

from cimrobust.twin.ops.activation_ops import by_name
from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, operator
from cimrobust.twin.ops.recurrent_kernels import gru_states, lstm_states, rnn_states

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
# Order of the gates in torch, as positions in ONNX's order (LSTM: i o f c to i f c o; GRU: z r h to
# r z h).
TORCH_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
NEED_ALPHA = {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
NEED_BETA = {"affine", "scaledtanh", "hardsigmoid"}


@dataclass(frozen=True)
class Cell:
    """Attributes of a recurrent node.

    Attributes:
        op: LSTM, GRU or RNN.
        hidden: Number of hidden units.
        directions: Whether each direction runs backwards in time.
        activations: Functions of each direction.
        names: Their names, lower case, all directions.
        clip: Limit of the sums that go into the activations, or None.
        input_forget: LSTM: the forget gate is one minus the input gate.
        linear_before_reset: GRU: the reset gate acts after the product.
    """

    op: str
    hidden: int
    directions: tuple[bool, ...]
    activations: tuple[tuple[Kernel, ...], ...]
    names: tuple[str, ...]
    clip: float | None
    input_forget: bool
    linear_before_reset: bool

    @property
    def is_usual(self) -> bool:
        """Whether the cell has the usual activations, and no limits."""
        usual = [name.lower() for name in DEFAULTS[self.op]]
        each = {
            tuple(self.names[start : start + len(usual)])
            for start in range(0, len(self.names), len(usual))
        }
        known = each == {tuple(usual)} or (self.op == "RNN" and each == {("relu",)})
        return known and self.clip is None and not self.input_forget

    @property
    def is_torch(self) -> bool:
        """Whether torch's own kernels compute the cell."""
        return self.is_usual and (self.op != "GRU" or self.linear_before_reset)


def read_cell(node: Node) -> Cell:
    """Read the attributes of a recurrent node."""
    op, direction = node.op, node.get("direction", "forward")
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[
        direction
    ]
    names = [name.lower() for name in node.get("activations") or DEFAULTS[op] * len(directions)]
    alphas, betas = (
        list(node.get("activation_alpha") or []),
        list(node.get("activation_beta") or []),
    )
    functions = []
    for name in names:
        alpha = alphas.pop(0) if name in NEED_ALPHA and alphas else None
        beta = betas.pop(0) if name in NEED_BETA and betas else None
        try:
            functions.append(by_name(name, alpha, beta))
        except KeyError:
            raise CannotConvertError(f"activation {name!r} is not covered") from None
    each = len(DEFAULTS[op])
    return Cell(
        op=op,
        hidden=int(node.get("hidden_size")),
        directions=directions,
        activations=tuple(
            tuple(functions[start : start + each]) for start in range(0, len(functions), each)
        ),
        names=tuple(names),
        clip=node.get("clip"),
        input_forget=bool(node.get("input_forget", 0)),
        linear_before_reset=bool(node.get("linear_before_reset", 0)),
    )


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
                _alive(lengths, x), x, torch.zeros_like(x)
            )  # what stands there may be anything
        if not cell.is_usual or p is not None or not x.shape[0]:
            y, last, memory = _by_loop(cell, x, w, r, b, lengths, h, c, p)
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


def _all_full(lengths: Int[Tensor, "batch"] | None, steps: int) -> bool:
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
    """Run the kernels of this package; returns as `_by_torch`, and with lengths as `_by_loop`."""
    behind = cell.op == "GRU" and cell.linear_before_reset
    sums = []
    for index, backwards in enumerate(cell.directions):
        inputs = _reversed(x, lengths) if backwards else x
        sums.append(
            linear(inputs, w[index], None if b is None else _input_bias(b[index], behind=behind))
        )
    stacked = torch.stack(sums, 1)
    alive = (
        None if lengths is None else _alive(lengths, x).unsqueeze(1).expand(*stacked.shape[:3], 1)
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
            _reversed(part, lengths) if back else part
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


def _alive(
    lengths: Int[Tensor, "batch"] | None, x: Float[Tensor, "time batch inputs"]
) -> Bool[Tensor, "time batch 1"]:
    """Return which steps are within their sequence, bool [time, batch, 1]."""
    steps = torch.arange(x.shape[0], device=x.device).reshape(-1, 1, 1)
    return steps < lengths.to(x.device).reshape(1, -1, 1)


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


def _by_loop(
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
    valid = None if lengths is None else _alive(lengths, x)
    for index, backwards in enumerate(cell.directions):
        step = _step(
            cell, index, r[index], None if b is None else b[index], None if p is None else p[index]
        )
        inputs = torch.matmul(x, w[index].t())
        if b is not None:
            inputs = inputs + b[index].chunk(2)[0]
        inputs = _reversed(inputs, lengths) if backwards else inputs
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
        outputs.append(_reversed(y, lengths) if backwards else y)
        lasts.append(state)
        memories.append(memory)
    return torch.stack(outputs, 1), torch.stack(lasts), torch.stack(memories)


def _reversed(
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
