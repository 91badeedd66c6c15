"""LSTM, GRU and RNN written out step by step in time, with samples in front.

Equations of the operators in the ONNX standard. A weight is the same device in every time step;
bounds let it be another one in each, which is sound and looser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.step_parts import made_of, part_name
from cimrobust.twin.ops.recurrent_node import GATES, Cell, read_cell
from cimrobust.twin.ops.twin_step import Step

if TYPE_CHECKING:
    from cimrobust.certify.sample_layouts import SampleLayout
    from cimrobust.twin.ops.converter_registry import Kernel, Node

RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
#: Most time steps, all directions, that are written out: each takes some twenty steps.
_MOST_STEPS = 128
#: A state of a GRU that begins at zero is a mean of hyperbolic tangents; float32 adds less.
_MOST_STATE = 1.0 + 2.0**-16


def unrolled(
    step: Step, layouts: Mapping[str, SampleLayout | None], zeros: frozenset[str]
) -> list[Step]:
    """Return the steps that a recurrent node stands for.

    Args:
        step: The node.
        layouts: Layouts of tensors that have samples.
        zeros: Tensors that are zero whatever the samples hold.

    Raises:
        CannotBoundError: The cell, its lengths or where its samples lie are not covered.
    """
    node = step.node
    cell = read_cell(node)
    if not cell.is_usual:
        raise CannotBoundError("its cell has limits or other activations than the usual ones")
    if node.has(4):
        raise CannotBoundError("its sequences have lengths of their own")
    data = layouts.get(node.inputs[0])
    batch = 0 if node.get("layout", 0) else 1
    if data is None or data.axis != batch or data.each != 1:
        raise CannotBoundError("its samples do not lie along the first axis")
    num_steps = data.shape[1 - batch]
    if num_steps * len(cell.directions) > _MOST_STEPS:
        raise CannotBoundError(
            f"it has {num_steps * len(cell.directions)} steps in time, more than {_MOST_STEPS}"
        )
    for place in (5, 6):
        if node.has(place) and node.inputs[place] not in zeros:
            raise CannotBoundError("its first state is not zero")
    return _Writer(node, cell, num_steps).steps()


@dataclass
class _Writer:
    """Writes one node out.

    Attributes:
        node: The node.
        cell: What it states.
        num_steps: Time steps.
    """

    node: Node
    cell: Cell
    num_steps: int
    _made: list[Step] = field(default_factory=list)
    _count: int = 0

    def steps(self) -> list[Step]:
        """Return all steps."""
        states: dict[tuple[int, int], str] = {}
        lasts: list[str] = []
        memories: list[str] = []
        for direction, backwards in enumerate(self.cell.directions):
            weights = self._weights(direction)
            h = c = ""
            order = range(self.num_steps)
            for time in reversed(order) if backwards else order:
                h, c = self._step(time, h, c, weights)
                states[time, direction] = h
            lasts.append(h)
            memories.append(c)
        directions = range(len(self.cell.directions))
        flat = [
            states[time, direction] for time in range(self.num_steps) for direction in directions
        ]
        shape = (self.num_steps, len(directions))
        node = self.node
        if node.wants(0):
            self._stack(flat, node.outputs[0], shape)
        if node.wants(1):
            self._stack(lasts, node.outputs[1], (len(directions),))
        if node.wants(2):
            self._stack(memories, node.outputs[2], (len(directions),))
        return self._made

    def _stack(self, parts: Sequence[str], output: str, shape: tuple[int, ...]) -> None:
        def run(*values: Float[Tensor, "samples hidden"]) -> Float[Tensor, "..."]:
            return torch.stack(values, 1).reshape(len(values[0]), *shape, -1)

        self._made.append(made_of(self.node, "Concat", tuple(parts), output, run))

    def _weights(self, direction: int) -> dict[str, str]:
        """Add the steps that take one direction's weights apart; return their names."""
        size, node = self.cell.hidden, self.node
        found = {
            role: self._add("Transpose", (node.inputs[place],), lambda w: w[direction].T)
            for role, place in (("w", 1), ("r", 2))
        }
        if node.has(3):
            half = GATES[node.op] * size
            found["wb"] = self._add("Slice", (node.inputs[3],), lambda b: b[direction, :half])
            found["rb"] = self._add("Slice", (node.inputs[3],), lambda b: b[direction, half:])
        if node.has(7):
            for place, gate in enumerate("iof"):
                found[f"p{gate}"] = self._add(
                    "Slice",
                    (node.inputs[7],),
                    lambda p, place=place: p[direction, place * size : (place + 1) * size],
                )
        return found

    def _step(self, time: int, h: str, c: str, weights: Mapping[str, str]) -> tuple[str, str]:
        """Add one step in time; return the names of the new state and memory."""
        x = self._add("Slice", (self.node.inputs[0],), self._at(time))
        sums = self._add("MatMul", (x, weights["w"]), torch.matmul)
        if self.cell.op == "GRU":
            return self._gru(sums, h, weights), ""
        if h:
            sums = self._sum(sums, self._add("MatMul", (h, weights["r"]), torch.matmul))
        for bias in ("wb", "rb"):
            sums = self._sum(sums, weights[bias]) if bias in weights else sums
        if self.cell.op == "RNN":
            is_relu = self.cell.names[0] == "relu"
            kernel = torch.relu if is_relu else torch.tanh
            return self._add("Relu" if is_relu else "Tanh", (sums,), kernel), ""
        return self._lstm(sums, c, weights)

    def _at(self, time: int) -> Kernel:
        """Return what takes the inputs of one time step, [samples, inputs]."""
        return lambda x: x[:, time]

    def _lstm(self, sums: str, c: str, weights: Mapping[str, str]) -> tuple[str, str]:
        i, o, f, g = (self._gate(sums, place) for place in range(4))
        if c and "pi" in weights:
            i = self._sum(i, self._times(c, weights["pi"]))
            f = self._sum(f, self._times(c, weights["pf"]))
        new = self._times(self._sigmoid(i), self._tanh(g))
        memory = self._sum(self._times(self._sigmoid(f), c), new) if c else new
        if "po" in weights:
            o = self._sum(o, self._times(memory, weights["po"]))
        return self._times(self._sigmoid(o), self._tanh(memory)), memory

    def _gru(self, sums: str, h: str, weights: Mapping[str, str]) -> str:
        """Return the state ``(1 - z) n + z h``; the first one begins at zero."""
        sums = self._sum(sums, weights["wb"]) if "wb" in weights else sums
        z, r, n = (self._gate(sums, place) for place in range(3))
        biases = [self._gate(weights["rb"], place) for place in range(3)] if "rb" in weights else []
        if h and not self.cell.linear_before_reset:
            size = self.cell.hidden
            of_gates = self._add("Slice", (weights["r"],), lambda w: w[:, : 2 * size])
            of_new = self._add("Slice", (weights["r"],), lambda w: w[:, 2 * size :])
            past = self._add("MatMul", (h, of_gates), torch.matmul)
            z, r = (self._sum(gate, self._gate(past, k)) for k, gate in enumerate((z, r)))
        elif h:
            past = self._add("MatMul", (h, weights["r"]), torch.matmul)
            z, r = (self._sum(gate, self._gate(past, k)) for k, gate in enumerate((z, r)))
        if biases:
            z, r = self._sum(z, biases[0]), self._sum(r, biases[1])
        r = self._sigmoid(r)
        if self.cell.linear_before_reset:
            behind = self._gate(past, 2) if h else ""
            if biases:
                behind = self._sum(behind, biases[2]) if behind else biases[2]
            n = self._sum(n, self._times(r, behind)) if behind else n
        else:
            if h:
                reset = self._times(r, h)
                n = self._sum(n, self._add("MatMul", (reset, of_new), torch.matmul))
            n = self._sum(n, biases[2]) if biases else n
        z, n = self._sigmoid(z), self._tanh(n)
        rest = self._add("Neg", (z,), lambda share: 1.0 - share)
        state = self._times(rest, n)
        if h:
            state = self._sum(state, self._times(z, h))
        return self._add(
            "Clip",
            (state,),
            lambda x: x.clamp(-_MOST_STATE, _MOST_STATE),
            {"min": -_MOST_STATE, "max": _MOST_STATE},
        )

    def _gate(self, sums: str, place: int) -> str:
        size = self.cell.hidden
        return self._add("Slice", (sums,), lambda x: x[..., place * size : (place + 1) * size])

    def _sum(self, first: str, second: str) -> str:
        return self._add("Add", (first, second), torch.add)

    def _times(self, first: str, second: str) -> str:
        return self._add("Mul", (first, second), torch.mul)

    def _sigmoid(self, source: str) -> str:
        return self._add("Sigmoid", (source,), torch.sigmoid)

    def _tanh(self, source: str) -> str:
        return self._add("Tanh", (source,), torch.tanh)

    def _add(
        self,
        op: str,
        inputs: tuple[str, ...],
        kernel: Kernel,
        attributes: Mapping[str, Any] | None = None,
    ) -> str:
        self._count += 1
        name = part_name(self.node, f"part {self._count}")
        made = made_of(self.node, op, inputs, name, kernel)
        if attributes:
            made = replace(made, node=replace(made.node, attributes=attributes))
        self._made.append(made)
        return name
