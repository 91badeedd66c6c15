"""Constants that a network computes itself, as the engine computes them.

Bounds take a constant as exact. What arithmetic in float32 makes of constants is not what exact
arithmetic does: the sine of a large number may be any. So every such tensor is held as onnxruntime
gives it, where it is the same for every batch; else its arithmetic has to be exact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from cimrobust.certify.given_tensors import MOST_WHOLE, ON_WHOLE, SELECTING
from cimrobust.certify.refusal import NotBoundedError
from cimrobust.engine.batches import cast_inputs
from cimrobust.engine.sessions import open_session
from cimrobust.onnx_io.constant_arithmetic import (
    tensors_of_constants,
    with_outputs_alone,
    with_values,
)
from cimrobust.onnx_io.tensors import decode

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.onnx_io.constant_arithmetic import Model, ModelNode

#: Of what only selects, that which may round.
_EXACT = SELECTING - {"Cast"}

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]


def with_engine_constants(model: Model, runtime: Runtime, weight_names: Collection[str]) -> Model:
    """Return a network with the constants that it computes as onnxruntime computes them.

    Args:
        model: The network that is bounded.
        runtime: Of the same network.
        weight_names: Its stored weights.

    Returns:
        The model itself where it computes none.

    Raises:
        NotBoundedError: One differs from batch to batch and is rounded, or none can be had.
    """
    dataset, output = runtime.dataset, runtime.plain.output
    varying = {*dataset.inputs, *weight_names}
    found = tensors_of_constants(model, output=output, varying=varying, exact=_EXACT)
    if not found:
        return model
    wanted = dict.fromkeys((*found, *(name for node in found.values() for name in node.input)))
    wanted = {name: None for name in wanted if name and name not in varying}
    try:
        session = open_session(with_outputs_alone(model, wanted))
        names = [value.name for value in session.get_outputs()]
        read = [value.name for value in session.get_inputs()]
        runs = [
            {**feed, **dict(zip(names, session.run(names, feed), strict=True))}
            for feed in _feeds(runtime, read)
        ]
    except Exception as err:  # whatever onnxruntime raises
        raise NotBoundedError(
            f"the constants that the network computes ({', '.join(found)}) cannot be had from"
            f" onnxruntime ({type(err).__name__})"
        ) from err
    stored = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    held = {tensor.name: decode(tensor) for tensor in stored}
    values, rows = {}, {}
    for name, node in found.items():
        made = runs[0][name]
        if made.dtype.kind == "f" and all(_is_same(made, run[name]) for run in runs[1:]):
            values[name] = made
        elif made.dtype.kind == "f" and all(_is_repeated(made, run[name]) for run in runs):
            rows[name] = made
        elif made.dtype.kind == "f" and not all(
            _rounds_nothing(node, {**held, **run}, name) for run in runs
        ):
            raise NotBoundedError(
                f"node {node.name} ({node.op_type}) computes a constant that differs from batch to"
                " batch, and rounds it"
            )
    return with_values(model, values, rows) if values or rows else model


def _feeds(runtime: Runtime, names: Collection[str]) -> list[dict[str, Any]]:
    """Return what runs of one and, where it can be, of two samples read."""
    dataset, mode = runtime.dataset, runtime.plain.feeding.mode
    inputs = cast_inputs(runtime.at_hand.inputs, dataset.inputs)
    constants = cast_inputs(runtime.at_hand.inputs, dataset.constants)
    counts = (1, 2) if mode == "free" else (1,)
    feeds = [
        {
            name: array[0] if mode == "none" else np.take(array, np.arange(count) % len(array), 0)
            for name, array in inputs.items()
        }
        | constants
        for count in counts
    ]
    return [{name: array for name, array in feed.items() if name in names} for feed in feeds]


def _is_same(one: Shaped[np.ndarray, "..."], other: Shaped[np.ndarray, "..."]) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def _is_repeated(row: Shaped[np.ndarray, "..."], whole: Shaped[np.ndarray, "..."]) -> bool:
    """Return whether an array is one row as often as there are samples, as class tokens are."""
    return row.shape[:1] == (1,) and all(_is_same(row[0], other) for other in whole)


def _rounds_nothing(node: ModelNode, values: Arrays, name: str) -> bool:
    """Return whether arithmetic was exact: on small whole numbers, or times 0, 1 or -1."""
    if node.op_type not in ON_WHOLE | {"Cast"}:
        return False
    read = [values[each] for each in node.input]
    exact = _is_whole(values[name])
    for value in read:
        exact = exact & _is_whole(value)
    if node.op_type == "Mul":
        for value in read:
            exact = exact | np.isin(value, (-1, 0, 1))
    return bool(np.all(exact))


def _is_whole(value: Shaped[np.ndarray, "..."]) -> Any:
    number = value.astype(np.float64)
    return (number == np.round(number)) & (np.abs(number) < MOST_WHOLE)
