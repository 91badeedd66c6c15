"""Derivatives written by hand against autograd through the plain loop, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cimrobust.twin.ops import recurrent
from cimrobust.twin.ops.converter_registry import Node, Settings
from cimrobust.twin.ops.recurrent import _by_kernels, _by_torch
from cimrobust.twin.ops.recurrent_loop import by_loop
from cimrobust.twin.ops.recurrent_node import Cell, read_cell

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TIME, BATCH, IN, HIDDEN = 4, 3, 2, 3
CELLS = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "gru, linear before reset": ("GRU", {"linear_before_reset": 1}),
    "rnn": ("RNN", {}),
    "rnn with relu": ("RNN", {"activations": ["Relu"]}),
}
LENGTHS = {"all": None, "short ones": torch.tensor([4, 0, 2])}


def cell_of(name: str, direction: str) -> Cell:
    op, attributes = CELLS[name]
    both = 2 if direction == "bidirectional" else 1
    given = {**attributes, "hidden_size": HIDDEN, "direction": direction}
    if "activations" in given:
        given["activations"] = given["activations"] * both
    return read_cell(Node("n", op, "", 14, given, (), (), (), (), Settings()))


def tensors(cell: Cell, *, bias: bool = True, steps: int = TIME) -> dict[str, Tensor]:
    draw, n, rows = torch.Generator().manual_seed(3), len(cell.directions), GATES[cell.op] * HIDDEN
    shapes = {"x": (steps, BATCH, IN), "w": (n, rows, IN), "r": (n, rows, HIDDEN)}
    shapes |= {"b": (n, 2 * rows)} if bias else {}
    shapes |= {"h": (n, BATCH, HIDDEN), "c": (n, BATCH, HIDDEN)}
    return {
        name: torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()
        for name, shape in shapes.items()
    }


def run(
    how: Callable[..., tuple[Tensor, ...]],
    cell: Cell,
    given: dict[str, Tensor],
    lengths: Tensor | None,
) -> tuple[Tensor, ...]:
    values = [given["x"], given["w"], given["r"], given.get("b"), lengths, given["h"], given["c"]]
    y, last, memory = how(cell, *values, None) if how is by_loop else how(cell, *values)
    return (y, last, memory) if cell.op == "LSTM" else (y, last)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_derivatives_are_those_of_the_loop(
    name: str, direction: str, lengths: str, bias: bool
) -> None:
    cell = cell_of(name, direction)
    given = tensors(cell, bias=bias)
    got = run(_by_kernels, cell, given, LENGTHS[lengths])
    want = run(by_loop, cell, given, LENGTHS[lengths])
    leaves = [given[key] for key in given if key != "c" or cell.op == "LSTM"]
    for index, (value, expected) in enumerate(zip(got, want, strict=True)):
        torch.testing.assert_close(value, expected)
        weight = torch.from_numpy(np.random.default_rng(index).normal(size=tuple(value.shape)))
        pairs = (
            torch.autograd.grad((part * weight).sum(), leaves, retain_graph=True, allow_unused=True)
            for part in (value, expected)
        )
        for mine, other in zip(*pairs, strict=True):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", CELLS)
def test_derivatives_are_differences_of_values(name: str) -> None:
    cell = cell_of(name, "bidirectional")
    given = tensors(cell)

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        return run(_by_kernels, cell, dict(zip(given, values, strict=True)), LENGTHS["short ones"])

    inputs = tuple(
        value if key != "c" or cell.op == "LSTM" else value.detach() for key, value in given.items()
    )
    assert torch.autograd.gradcheck(outputs, inputs)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("shared", [True, False], ids=["one network", "a network a run"])
def test_runs_share_a_pass(name: str, shared: bool) -> None:
    cell, runs = cell_of(name, "bidirectional"), 3
    given = tensors(cell)
    own = {
        key: torch.stack([value.detach() * (1 + run) for run in range(runs)]).requires_grad_()
        for key, value in given.items()
    }
    held = {key: given[key] if shared and key in "wrb" else own[key] for key in given}

    def outputs(values: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return run(_by_kernels, cell, values, LENGTHS["short ones"])

    dims = {key: None if shared and key in "wrb" else 0 for key in given}
    got = torch.func.vmap(outputs, in_dims=(dims,))(held)
    alone = [
        outputs({key: value if dims[key] is None else value[index] for key, value in held.items()})
        for index in range(runs)
    ]
    leaves = [held[key] for key in held if key != "c" or cell.op == "LSTM"]
    for value, *parts in zip(got, *alone, strict=True):
        expected = torch.stack(parts)
        torch.testing.assert_close(value, expected)
        pairs = (
            torch.autograd.grad(part.square().sum(), leaves, retain_graph=True)
            for part in (value, expected)
        )
        for mine, other in zip(*pairs, strict=True):
            torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("clip", [None, 2.0], ids=["kernels", "loop"])
def test_what_stands_behind_the_end_of_a_sequence_is_never_read(
    name: str, clip: float | None
) -> None:
    op, attributes = CELLS[name]
    given = tensors(cell_of(name, "forward"))
    lengths = torch.tensor([4, 1, 2])
    with torch.no_grad():
        for sample, length in enumerate(lengths):
            given["x"][length:, sample] = torch.nan
    node = Node(
        "n",
        op,
        "",
        14,
        {**attributes, "hidden_size": HIDDEN, "clip": clip},
        (),
        (),
        (),
        (),
        Settings(),
    )
    values = recurrent.recurrent(node)(
        given["x"], given["w"], given["r"], given["b"], lengths, given["h"]
    )
    gradients = torch.autograd.grad(
        sum(value.sum() for value in values), [given[key] for key in "xwrbh"]
    )
    assert all(bool(value.isfinite().all()) for value in (*values, *gradients))


@pytest.mark.parametrize("name", ["lstm", "gru, linear before reset", "rnn", "rnn with relu"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_kernels_of_torch_compute_the_same(name: str, direction: str) -> None:
    cell = cell_of(name, direction)
    given = tensors(cell)
    values = (given["x"], given["w"], given["r"], given["b"], given["h"], given["c"])
    got, want = _by_torch(cell, *values), run(_by_kernels, cell, given, None)
    for value, expected in zip(got, want, strict=False):
        torch.testing.assert_close(value, expected)


def test_lstm_of_a_processor_takes_the_kernel_of_torch_in_float32_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    monkeypatch.setattr(
        recurrent, "_by_torch", lambda *values: taken.append(values) or _by_torch(*values)
    )
    cell = cell_of("lstm", "forward")
    node = Node("n", "LSTM", "", 14, {"hidden_size": HIDDEN}, (), (), (), (), Settings())
    given = tensors(cell)
    recurrent.recurrent(node)(given["x"], given["w"], given["r"])
    assert not taken
    recurrent.recurrent(node)(given["x"].float(), given["w"].float(), given["r"].float())
    assert bool(taken) == torch.backends.mkldnn.is_available()
