"""If, Loop and Scan, run as Python control flow on the values at hand."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.onnx_io.size_limits import MAX_TWIN_ITERATIONS
from cimrobust.twin.ops.converter_registry import (
    Body,
    CannotConvertError,
    Kernel,
    Node,
    Value,
    operator,
)
from cimrobust.twin.ops.torch_tensors import shape_tensor


@operator("If")
def if_(node: Node) -> Kernel:
    """If: runs the branch that the condition chooses."""
    yes: Body = node.get("then_branch")
    no: Body = node.get("else_branch")

    def run(condition: Shaped[Tensor, "..."], *captured: Value) -> tuple[Value, ...]:
        return tuple((yes if bool(condition) else no).run([], captured))

    return run


def _stacked(values: list[Any], axis: int = 0) -> Shaped[Tensor, "..."]:
    return torch.stack(values, axis) if values else torch.zeros(0)


@operator("Loop")
def loop(node: Node) -> Kernel:
    """Loop: its body takes iteration, condition and carried values; scan outputs are stacked."""
    body: Body = node.get("body")
    carried = len(node.inputs) - 2

    def run(
        limit: Shaped[Tensor, "..."] | None, condition: Shaped[Tensor, "..."] | None, *values: Value
    ) -> tuple[Value, ...]:
        state, captured = list(values[:carried]), values[carried:]
        scans: list[list[Value]] = [[] for _ in range(body.num_outputs - 1 - carried)]
        last = None if limit is None else int(limit)
        going = True if condition is None else bool(condition)
        count = 0
        while going and (last is None or count < last):
            if count == MAX_TWIN_ITERATIONS:
                raise NotImplementedError(
                    f"a loop that runs its body more than {MAX_TWIN_ITERATIONS} times"
                )
            result = body.run([torch.tensor(count), torch.tensor(going), *state], captured)
            going = bool(result[0])
            state = result[1 : 1 + carried]
            for scan, value in zip(scans, result[1 + carried :], strict=True):
                scan.append(value)
            count += 1
        return (*state, *(_stacked(scan) for scan in scans))

    return run


@operator("Scan", since=9)
def scan(node: Node) -> Kernel:
    """Scan-9: slices of the scan inputs go through the body one after the other."""
    body: Body = node.get("body")
    num_scans = int(node.get("num_scan_inputs"))
    num_states = len(node.inputs) - num_scans
    num_outputs = body.num_outputs - num_states
    in_axes, out_axes = (
        node.get("scan_input_axes") or [0] * num_scans,
        node.get("scan_output_axes") or [0] * num_outputs,
    )
    in_back = node.get("scan_input_directions") or [0] * num_scans
    out_back = node.get("scan_output_directions") or [0] * num_outputs

    def run(*values: Any) -> tuple[Value, ...]:
        state = list(values[:num_states])
        inputs = values[num_states : num_states + num_scans]
        captured = values[num_states + num_scans :]
        slices = [list(x.unbind(axis)) for x, axis in zip(inputs, in_axes, strict=True)]
        slices = [
            parts[::-1] if back else parts for parts, back in zip(slices, in_back, strict=True)
        ]
        collected: list[list[Value]] = [[] for _ in range(num_outputs)]
        for parts in zip(*slices, strict=True):
            result = body.run([*state, *parts], captured)
            state = result[:num_states]
            for scan_output, value in zip(collected, result[num_states:], strict=True):
                scan_output.append(value)
        collected = [
            parts[::-1] if back else parts for parts, back in zip(collected, out_back, strict=True)
        ]
        return (
            *state,
            *(_stacked(parts, axis) for parts, axis in zip(collected, out_axes, strict=True)),
        )

    return run


@operator("Scan", until=8)
def scan_8(node: Node) -> Kernel:
    """Scan-8 has a batch axis of its own."""
    raise CannotConvertError("Scan of opset 8 is not covered")


@operator("SequenceConstruct")
def sequence_construct(node: Node) -> Kernel:
    """SequenceConstruct."""
    return lambda *values: list(values)


@operator("SequenceEmpty")
def sequence_empty(node: Node) -> Kernel:
    """SequenceEmpty."""
    return list


@operator("SequenceAt")
def sequence_at(node: Node) -> Kernel:
    """SequenceAt."""
    return lambda values, index: values[int(index)]


@operator("SequenceInsert")
def sequence_insert(node: Node) -> Kernel:
    """SequenceInsert: at the end where no position is given."""

    def run(
        values: list[Shaped[Tensor, "..."]],
        value: Shaped[Tensor, "..."],
        index: Shaped[Tensor, "..."] | None = None,
    ) -> list[Shaped[Tensor, "..."]]:
        place = len(values) if index is None else int(index)
        place = place + len(values) if place < 0 else place
        return [*values[:place], value, *values[place:]]

    return run


@operator("SequenceErase")
def sequence_erase(node: Node) -> Kernel:
    """SequenceErase: the last one where no position is given."""

    def run(
        values: list[Shaped[Tensor, "..."]], index: Shaped[Tensor, "..."] | None = None
    ) -> list[Shaped[Tensor, "..."]]:
        place = (-1 if index is None else int(index)) % len(values)
        return [*values[:place], *values[place + 1 :]]

    return run


@operator("SequenceLength")
def sequence_length(node: Node) -> Kernel:
    """SequenceLength."""
    return lambda values: torch.tensor(len(values), dtype=torch.int64)


@operator("ConcatFromSequence")
def concat_from_sequence(node: Node) -> Kernel:
    """ConcatFromSequence, along an axis or a new one."""
    axis = int(node.get("axis"))
    return (
        (lambda values: torch.stack(values, axis))
        if node.get("new_axis", 0)
        else (lambda values: torch.cat(values, axis))
    )


@operator("SplitToSequence")
def split_to_sequence(node: Node) -> Kernel:
    """SplitToSequence: a number is the size of the parts, a list their sizes.

    Single slices without it.
    """
    axis, keep = int(node.get("axis", 0)), bool(node.get("keepdims", 1))

    def run(
        x: Shaped[Tensor, "..."], split: Shaped[Tensor, "..."] | None = None
    ) -> list[Shaped[Tensor, "..."]]:
        if split is None:
            return list(torch.split(x, 1, axis)) if keep else list(x.unbind(axis))
        return list(
            torch.split(
                x, int(split) if split.dim() == 0 else [int(size) for size in split.tolist()], axis
            )
        )

    return run


@operator("Optional", "OptionalGetElement")
def optional(node: Node) -> Kernel:
    """Optional values are held as themselves, empty ones as None."""
    return lambda value=None: value


@operator("OptionalHasElement")
def optional_has_element(node: Node) -> Kernel:
    """OptionalHasElement."""
    return lambda value=None: torch.tensor(value is not None)


@operator("Unique", since=11)
def unique(node: Node) -> Kernel:
    """Unique-11: sorted or in order of first appearance; with first places, inverse and counts."""
    axis, ordered = node.get("axis"), bool(node.get("sorted", 1))

    def run(x: Shaped[Tensor, "..."]) -> tuple[Shaped[Tensor, "..."], ...]:
        flat = x.flatten() if axis is None else x
        dim = 0 if axis is None else axis % x.dim()
        values, inverse, counts = torch.unique(
            flat, return_inverse=True, return_counts=True, dim=dim
        )
        places = torch.arange(inverse.numel(), device=x.device)
        first = torch.full((counts.numel(),), inverse.numel(), device=x.device).scatter_reduce(
            0, inverse, places, "amin"
        )
        if not ordered:
            order = torch.argsort(first)
            rank = torch.argsort(order)
            values, first, counts, inverse = (
                values.index_select(dim, order),
                first[order],
                counts[order],
                rank[inverse],
            )
        return values, first, inverse, counts

    return run


@operator("TensorScatter")
def tensor_scatter(node: Node) -> Kernel:
    """TensorScatter-24: writes a run of entries into a cache, from a place given per sample."""
    axis, circular = int(node.get("axis", -2)), node.get("mode", "linear") == "circular"

    def run(
        past: Shaped[Tensor, "..."],
        update: Shaped[Tensor, "..."],
        places: Shaped[Tensor, "..."] | None = None,
    ) -> Shaped[Tensor, "..."]:
        dim = axis % past.dim()
        batch = past.shape[0]
        starts = shape_tensor([0] * batch) if places is None else places
        steps = starts.to(past.device).reshape(-1, 1) + torch.arange(
            update.shape[dim], device=past.device
        )
        steps = steps % past.shape[dim] if circular else steps
        view = [1] * past.dim()
        view[0], view[dim] = batch, update.shape[dim]
        return past.scatter(dim, steps.reshape(view).expand(update.shape), update)

    return run
