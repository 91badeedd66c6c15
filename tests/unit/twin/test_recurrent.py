from __future__ import annotations

import numpy as np
import pytest

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TIME, BATCH, IN, HIDDEN = 5, 3, 4, 2


def tensors(op, rng, direction, *, states, peepholes=False):
    n, rows = 2 if direction == "bidirectional" else 1, GATES[op] * HIDDEN
    values = {
        "x": (TIME, BATCH, IN),
        "w": (n, rows, IN),
        "r": (n, rows, HIDDEN),
        "b": (n, 2 * rows),
    }
    if states:
        values["h"] = (n, BATCH, HIDDEN)
        if op == "LSTM":
            values["c"] = (n, BATCH, HIDDEN)
    if peepholes:
        values["p"] = (n, 3 * HIDDEN)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in values.items()}


def run(check, op, values, *, opset=14, lengths=None, **how):
    inputs, constants = (
        {"x": values["x"]},
        {name: value for name, value in values.items() if name != "x"},
    )
    if lengths is not None:
        constants["l"] = np.array(lengths, np.int32)
    names = ["x", "w", "r", "b", "l", "h", "c", "p"][: 8 if op == "LSTM" else 6]
    order = [name if name in values or name in constants else "" for name in names]
    while not order[-1]:
        order.pop()
    outputs = ["y", "yh", "yc"] if op == "LSTM" else ["y", "yh"]
    check(
        op,
        inputs,
        opset=opset,
        constants=constants,
        order=order,
        outputs=outputs,
        hidden_size=HIDDEN,
        **how,
    )


@pytest.mark.parametrize("op", list(GATES))
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 2, 3], [5, 5, 5]])
def test_directions_states_and_lengths(check, rng, op, direction, states, lengths):
    how = {"linear_before_reset": int(states)} if op == "GRU" else {}
    run(
        check,
        op,
        tensors(op, rng, direction, states=states),
        direction=direction,
        lengths=lengths,
        **how,
    )


@pytest.mark.parametrize("opset", [7, 14, 22])
@pytest.mark.parametrize("op", list(GATES))
def test_opsets(check, rng, op, opset):
    run(check, op, tensors(op, rng, "forward", states=True), opset=opset)


ACTIVATIONS = {
    "LSTM": ["HardSigmoid", "Relu", "Softsign"],
    "GRU": ["HardSigmoid", "LeakyRelu"],
    "RNN": ["Relu"],
}


@pytest.mark.parametrize("op", list(GATES))
def test_other_activations_and_clip(check, rng, op):
    alphas = {"LSTM": [0.3], "GRU": [0.3, 0.1], "RNN": []}[op]
    how = {"activation_alpha": alphas, "activation_beta": [0.4]} if alphas else {}
    run(check, op, tensors(op, rng, "forward", states=True), activations=ACTIVATIONS[op], **how)
    run(check, op, tensors(op, rng, "forward", states=True), clip=0.7)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_lstm_peepholes(check, rng, direction):
    run(
        check,
        "LSTM",
        tensors("LSTM", rng, direction, states=True, peepholes=True),
        direction=direction,
    )


def test_lstm_without_bias_and_with_coupled_gates(check, rng):
    values = tensors("LSTM", rng, "forward", states=False)
    del values["b"]
    run(check, "LSTM", values)
    run(check, "LSTM", values, input_forget=1)
