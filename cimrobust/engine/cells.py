"""LSTM, GRU and RNN cells as ONNX defines them.

The two matrix products are the caller's, everything else is digital.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64, Shaped

from cimrobust.engine.recurrent_activations import Activation, activations_of
from cimrobust.errors import ModelNotCoveredError

#: (direction, [n, inputs] float32) -> [n, gates * hidden] float32, without bias.
Product = Callable[
    [int, Float32[np.ndarray, "vectors inputs"]], Float32[np.ndarray, "vectors gates"]
]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


@dataclass(frozen=True)
class _Cell:
    """One direction of a recurrent node.

    Attributes:
        functions: Its activations.
        state_product: Product of states with the recurrent weights.
        input_bias: Bias of the input product, float32 [gates * hidden].
        state_bias: Bias of the state product.
        peepholes: Weights from the cell state to input, output and forget gate, float32 [3,
            hidden]; None: none.
        clip: Bound of what activations are given; infinite: none.
        input_forget: The forget gate is one minus the input gate.
        reset_behind: The reset gate of a GRU acts behind the state product.
    """

    functions: tuple[Activation, ...]
    state_product: Callable[
        [Float32[np.ndarray, "batch hidden"]], Float32[np.ndarray, "batch gates"]
    ]
    input_bias: Float32[np.ndarray, "gates"]
    state_bias: Float32[np.ndarray, "gates"]
    peepholes: Float32[np.ndarray, "3 hidden"] | None
    clip: np.float32
    input_forget: bool
    reset_behind: bool


State = tuple[Float32[np.ndarray, "batch hidden"], Float32[np.ndarray, "batch hidden"]]
Step = Callable[[_Cell, Float32[np.ndarray, "batch gates"], State], State]


def run_cell(
    op: str,
    attributes: Mapping[str, object],
    inputs: Sequence[Shaped[np.ndarray, "..."] | None],
    *,
    input_product: Product,
    state_product: Product,
    hidden_size: int,
    num_directions: int,
) -> tuple[Float32[np.ndarray, "..."], ...]:
    """Compute a recurrent node.

    Args:
        op: LSTM, GRU or RNN.
        attributes: Attributes of the node.
        inputs: Its inputs in the order of the operator; W and R are not looked at.
        input_product: Product of inputs with W, for all steps at once.
        state_product: Product of states with R, once a step.
        hidden_size: Size of the hidden state.
        num_directions: 1 or 2.

    Returns:
        Y, Y_h, and for LSTM Y_c, float32.

    Raises:
        ModelNotCoveredError: An activation is not known.
    """
    given = [*inputs, *(None,) * (8 - len(inputs))]
    batch_first = _number(attributes, "layout", 0) == 1
    x = np.asarray(given[0], np.float32)
    x = x.swapaxes(0, 1) if batch_first else x
    num_steps, batch = x.shape[:2]
    lengths = (
        np.full(batch, num_steps)
        if given[4] is None
        else np.asarray(given[4]).astype(np.int64).reshape(-1)
    )
    states = [
        _initial(given[slot], num_directions, batch, hidden_size, batch_first)
        for slot in (5, 6 if op == "LSTM" else 7)
    ]
    # onnxruntime gives zeros as the last state of a sequence without steps, whatever its first
    # state was.
    states = [state * (lengths > 0)[:, None].astype(np.float32) for state in states]
    functions = activations_of(attributes, _DEFAULTS[op], num_directions)
    direction = str(attributes.get("direction", "forward"))
    step = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[op]
    outputs = np.zeros((num_steps, num_directions, batch, hidden_size), np.float32)
    last: list[State] = []
    for number in range(num_directions):
        cell = _cell(op, attributes, given, functions[number], number, hidden_size, state_product)
        driven = (
            input_product(number, np.ascontiguousarray(x).reshape(num_steps * batch, -1))
            + cell.input_bias
        )
        backward = direction == "reverse" or number == 1
        order = _step_order(num_steps, lengths, backward=backward)
        state: State = (states[0][number], states[1][number])
        last.append(
            _run_direction(
                cell,
                step,
                driven.reshape(num_steps, batch, -1),
                order,
                lengths,
                state,
                outputs[:, number],
            )
        )
    finals = [
        np.stack([state[index] for state in last]) for index in range(2 if op == "LSTM" else 1)
    ]
    if batch_first:
        return (
            np.ascontiguousarray(outputs.transpose(2, 0, 1, 3)),
            *(np.ascontiguousarray(final.swapaxes(0, 1)) for final in finals),
        )
    return (outputs, *finals)


def _run_direction(
    cell: _Cell,
    step: Step,
    driven: Float32[np.ndarray, "steps batch gates"],
    order: Int64[np.ndarray, "steps batch"],
    lengths: Int64[np.ndarray, "batch"],
    state: State,
    outputs: Float32[np.ndarray, "steps batch hidden"],
) -> State:
    """Run all steps of one direction.

    `outputs` [steps, batch, hidden] is filled, the last state of every sequence returned.
    """
    samples = np.arange(driven.shape[1])
    for number in range(len(driven)):
        if not samples.size:
            break
        times = order[number]
        new = step(cell, driven[times, samples], state)
        running = (number < lengths)[:, None]
        state = (np.where(running, new[0], state[0]), np.where(running, new[1], state[1]))
        live = running[:, 0]
        outputs[times[live], samples[live]] = state[0][live]
    return state


def _step_order(
    num_steps: int, lengths: Int64[np.ndarray, "batch"], *, backward: bool
) -> Int64[np.ndarray, "steps batch"]:
    """Return the time that every sequence is at in every step, int64 [steps, batch].

    A backward one begins at its own end.
    """
    steps = np.arange(num_steps)[:, None]
    if not backward:
        return np.broadcast_to(steps, (num_steps, len(lengths)))
    return np.maximum(lengths[None, :] - 1 - steps, 0)


def _lstm(cell: _Cell, driven: Float32[np.ndarray, "batch gates"], state: State) -> State:
    hidden, memory = state
    gates = driven + cell.state_product(hidden) + cell.state_bias
    inward, outward, forget, candidate = np.split(gates, 4, axis=1)
    f, g, h = cell.functions
    if cell.peepholes is not None:
        inward, forget = inward + cell.peepholes[0] * memory, forget + cell.peepholes[2] * memory
    inward = f(_clipped(inward, cell))
    forget = np.float32(1) - inward if cell.input_forget else f(_clipped(forget, cell))
    memory = forget * memory + inward * g(_clipped(candidate, cell))
    if cell.peepholes is not None:
        outward = outward + cell.peepholes[1] * memory
    return f(_clipped(outward, cell)) * h(memory), memory


def _gru(cell: _Cell, driven: Float32[np.ndarray, "batch gates"], state: State) -> State:
    hidden = state[0]
    size = hidden.shape[1]
    f, g = cell.functions
    back = cell.state_product(hidden)
    gates = f(
        _clipped(driven[:, : 2 * size] + back[:, : 2 * size] + cell.state_bias[: 2 * size], cell)
    )
    update, reset = gates[:, :size], gates[:, size:]
    bias = cell.state_bias[2 * size :]
    # Without linear_before_reset the reset state goes through the array in a read of its own.
    inside = None if cell.reset_behind else cell.state_product(reset * hidden)[:, 2 * size :] + bias
    recalled = reset * (back[:, 2 * size :] + bias) if inside is None else inside
    candidate = g(_clipped(driven[:, 2 * size :] + recalled, cell))
    return (np.float32(1) - update) * candidate + update * hidden, state[1]


def _rnn(cell: _Cell, driven: Float32[np.ndarray, "batch gates"], state: State) -> State:
    (f,) = cell.functions
    return f(_clipped(driven + cell.state_product(state[0]) + cell.state_bias, cell)), state[1]


def _clipped(
    values: Float32[np.ndarray, "batch units"], cell: _Cell
) -> Float32[np.ndarray, "batch units"]:
    return np.clip(values, -cell.clip, cell.clip) if np.isfinite(cell.clip) else values


def _cell(
    op: str,
    attributes: Mapping[str, object],
    given: Sequence[Shaped[np.ndarray, "..."] | None],
    functions: tuple[Activation, ...],
    direction: int,
    hidden_size: int,
    state_product: Product,
) -> _Cell:
    width = _GATES[op] * hidden_size
    bias = (
        np.zeros(2 * width, np.float32)
        if given[3] is None
        else np.asarray(given[3], np.float32)[direction]
    )
    peepholes = (
        None
        if op != "LSTM" or given[7] is None
        else np.asarray(given[7], np.float32)[direction].reshape(3, hidden_size)
    )
    clip = float(str(attributes.get("clip", np.inf)))
    if clip <= 0:
        raise ModelNotCoveredError(
            f"clip of a {op} node must be positive, got {clip}; export it with one"
        )
    return _Cell(
        functions=functions,
        state_product=lambda state: state_product(direction, np.ascontiguousarray(state)),
        input_bias=bias[:width],
        state_bias=bias[width:],
        peepholes=peepholes,
        clip=np.float32(clip),
        input_forget=_number(attributes, "input_forget", 0) != 0,
        reset_behind=_number(attributes, "linear_before_reset", 0) != 0,
    )


def _initial(
    value: Float[np.ndarray, "..."] | None,
    directions: int,
    batch: int,
    hidden: int,
    batch_first: bool,
) -> Float32[np.ndarray, "directions batch hidden"]:
    if value is None:
        return np.zeros((directions, batch, hidden), np.float32)
    state = np.asarray(value, np.float32)
    return state.swapaxes(0, 1) if batch_first else state


def _number(attributes: Mapping[str, object], name: str, default: int) -> int:
    return int(str(attributes.get(name, default)))
