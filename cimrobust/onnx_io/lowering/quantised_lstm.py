"""The LSTM of onnxruntime's dynamic quantisation, as what its kernel computes.

The kernel (contrib_ops/cpu/quantization/dynamic_quantize_lstm.cc of onnxruntime) quantises its
input with one range over all time steps, and the state with a range of its own in every step.
An LSTM node cannot say the latter: a Scan over time can. Ranges are those of a whole batch, so
that networks with this operator are run one sample at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, TensorProto, helper

from cimrobust.onnx_io.lowering.lowering_errors import RefusedError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import END, part, require_opset, size_of, unsqueeze

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

_SINCE = 13
_DIRECTIONS = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}
_ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}
_USUAL = ("Sigmoid", "Tanh", "Tanh")


@lowers("com.microsoft::DynamicQuantizeLSTM")
def dynamic_quantised_lstm(job: Job) -> None:
    """DynamicQuantizeLinear, DequantizeLinear, MatMul; a Scan over time does so for the state."""
    require_opset(job, _SINCE)
    directions = _DIRECTIONS.get(job.text("direction", "forward"))
    if directions is None:
        raise RefusedError(
            f"direction must be forward, reverse or bidirectional, got {job.text('direction')!r}"
        )
    if job.input(4):
        raise RefusedError(
            "quantised sequences of different lengths are not covered; give the network before it"
            " was quantised"
        )
    names = [name.lower() for name in _activations(job)] or [name.lower() for name in _USUAL] * len(
        directions
    )
    unknown = sorted(set(names) - set(_ACTIVATIONS))
    if unknown or len(names) != 3 * len(directions):
        raise RefusedError(
            "activations must be Sigmoid, Tanh or Relu, three a direction, got"
            f" {', '.join(unknown or names)}"
        )
    inputs = _rounded(job, job.input(0))
    outputs = []
    for index, backwards in enumerate(directions):
        chosen = [_ACTIVATIONS[name] for name in names[3 * index : 3 * index + 3]]
        sums = job.add("MatMul", inputs, _weight(job, 1, index, len(directions)), wish="inputs")
        outputs.append(
            _over_time(job, sums, index, len(directions), backwards=backwards, activations=chosen)
        )
    y, last, memory = zip(*outputs, strict=True)
    job.finish(
        *(
            _stacked(job, parts, axis) if job.wants(at) else ""
            for at, (parts, axis) in enumerate(((y, 1), (last, 0), (memory, 0)))
        )
    )


def _activations(job: Job) -> list[str]:
    for attribute in job.node.attribute:
        if attribute.name == "activations":
            return [value.decode("utf-8", "replace") for value in attribute.strings]
    return []


def _rounded(job: Job, name: str) -> str:
    """Return a tensor rounded to 256 levels between its least and its greatest value."""
    return job.add(
        "DequantizeLinear", *job.many("DynamicQuantizeLinear", name, outputs=3), wish="rounded"
    )


def _weight(job: Job, position: int, direction: int, num_directions: int) -> str:
    """Return the weights of one direction as real numbers, [inputs, gates hidden]."""
    name, scale, zero = (
        job.input(position),
        *(job.value(job.input(6 + 2 * position + offset)) for offset in (0, 1)),
    )
    levels = job.value(name)
    if levels is None or scale is None or zero is None:
        raise RefusedError("weights, their scales and zero points must be constants")
    if (
        levels.ndim != 3
        or scale.shape[:1] != (num_directions,)
        or zero.size not in (1, scale.size)
        or (num_directions == 2 and zero.size != scale.size)
    ):
        raise RefusedError(
            f"scales and zero points must fit weights of shape {list(levels.shape)}, got"
            f" {list(scale.shape)} and {list(zero.shape)}"
        )
    if len(np.unique(zero)) != 1:
        raise RefusedError("zero points must be all the same")  # as onnxruntime demands
    own = np.ascontiguousarray(scale[direction], np.float32)
    points = np.full(own.shape, zero.reshape(-1)[0], levels.dtype)
    parts = [
        job.add("Gather", name, job.index(direction), axis=0),
        job.constant(own, "scale"),
        job.constant(points, "zero"),
    ]
    return (
        job.add("DequantizeLinear", *parts, axis=1)
        if own.ndim
        else job.add("DequantizeLinear", *parts)
    )


def _over_time(
    job: Job, sums: str, index: int, num_directions: int, *, backwards: int, activations: list[str]
) -> tuple[str, str, str]:
    """Add the Scan of one direction.

    Return the states of all steps, the last state and the last memory.
    """
    weight = _weight(job, 2, index, num_directions)
    bias, peepholes = (_row(job, position, index) for position in (3, 7))
    states = [_first_state(job, position, index) for position in (5, 6)]
    body = _body(job, weight, bias, peepholes, activations)
    turn = {"scan_input_directions": [backwards], "scan_output_directions": [backwards]}
    made = job.many(
        "Scan",
        *states,
        sums,
        outputs=3,
        wish="steps",
        body=body,  # type: ignore[arg-type]
        num_scan_inputs=1,
        **turn,  # type: ignore[arg-type]
    )
    return made[2], made[0], made[1]


def _row(job: Job, position: int, index: int) -> str:
    """Return one direction's part of an input [directions, ...], or nothing if it is left out."""
    return (
        job.add("Gather", job.input(position), job.index(index), axis=0)
        if job.input(position)
        else ""
    )


def _first_state(job: Job, position: int, index: int) -> str:
    """Return the first state of one direction, [batch, hidden]; zero where it is left out."""
    given = _row(job, position, index)
    if given:
        return given
    size = job.axes(job.integer("hidden_size", 0))
    shape = job.add("Concat", size_of(job, job.input(0), 1), size, axis=0)
    return job.add("Expand", job.constant(np.zeros((1, 1), np.float32), "zero_state"), shape)


def _body(job: Job, weight: str, bias: str, peepholes: str, activations: list[str]) -> GraphProto:
    """Return one step: state, memory and the products of the inputs in.

    The new state and memory, and the state once more, out.
    """
    hidden, clip = job.integer("hidden_size", 0), job.number("clip", 0.0)
    total_bias = (
        job.add("Add", part(job, bias, 0, 0, 4 * hidden), part(job, bias, 0, 4 * hidden, END))
        if bias
        else ""
    )
    peeps = (
        [part(job, peepholes, 0, at * hidden, (at + 1) * hidden) for at in range(3)]
        if peepholes
        else []
    )
    names = [job.names.take(f"{job.node.name}.{name}") for name in ("state", "memory", "products")]
    sizes = job.axes(*[hidden] * 4)
    limits = (
        [job.constant(np.asarray(bound, np.float32), "limit") for bound in (-clip, clip)]
        if clip > 0
        else []
    )
    state, memory, products = names
    outer, job.nodes = job.nodes, []
    sums = job.add(
        "Add", products, job.add("MatMul", _rounded(job, state), weight, wish="recurrent")
    )
    sums = job.add("Add", sums, total_bias) if total_bias else sums
    entry, exit_, forget, cell = job.many("Split", sums, sizes, outputs=4, axis=1)

    def gate(value: str, function: str, peep: int | None = None, seen: str = memory) -> str:
        if peeps and peep is not None:
            value = job.add("Add", value, job.add("Mul", seen, peeps[peep]))
        return job.add(function, job.add("Clip", value, *limits) if limits else value)

    # Peepholes in the file: input, output, forget gate.
    entry = gate(entry, activations[0], 0)
    if job.integer("input_forget", 0):
        forget = job.add("Sub", job.constant(np.asarray(1.0, np.float32), "one"), entry)
    else:
        forget = gate(forget, activations[0], 2)
    new_memory = job.add(
        "Add", job.add("Mul", forget, memory), job.add("Mul", entry, gate(cell, activations[1]))
    )
    exit_ = gate(exit_, activations[0], 1, new_memory)
    new_state = job.add("Mul", exit_, job.add(activations[2], new_memory))
    results = [new_state, new_memory, job.add("Identity", new_state)]
    inner, job.nodes = job.nodes, outer
    widths = (hidden, hidden, 4 * hidden)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])
        for name, width in zip(names, widths, strict=True)
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, hidden]) for name in results
    ]
    return helper.make_graph(inner, f"{job.node.name}.step", inputs, outputs)


def _stacked(job: Job, parts: tuple[str, ...], axis: int) -> str:
    """Join the directions along a new axis."""
    rows = [unsqueeze(job, part, axis) for part in parts]
    return rows[0] if len(rows) == 1 else job.add("Concat", *rows, axis=axis)
