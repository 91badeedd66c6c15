"""The file that sessions of chips are opened from: a deployed network without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from jaxtyping import Shaped

from cimrobust.onnx_io.half_weights import read_as_halves, take_halves
from cimrobust.onnx_io.large_models import (
    is_large,
    large_initializers,
    mark_external,
    require_one_message,
    tensor_bytes,
    without_data,
)
from cimrobust.onnx_io.memory_needs import SMALLER
from cimrobust.onnx_io.size_limits import MOST_SESSION_BYTES
from cimrobust.onnx_io.tensors import decode, num_bytes

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed

# Kinds of arrays that are handed over: all that can be where one message does not hold the network,
# else tables of floats that are worth it.
_ANY_KIND, _FLOATS, _LEAST_FLOATS = "biuf", "f", 2**20

#: Where a template says that its stored weights are; nothing is ever read from there.
TEMPLATE_LOCATION = "cimrobust"


def template_bytes(deployed: Deployed) -> bytes:
    """Return the model with its stored weights marked as external, see `external_bytes`."""
    return external_bytes(deployed.model, deployed.weight_names)


def halved_weights(deployed: Deployed) -> frozenset[str]:
    """Return the stored weights that sessions are given in 16 bits; none of a small network."""
    if _is_small(deployed.model):
        return frozenset()
    return read_as_halves(deployed.model, deployed.weight_names)


def session_template(deployed: Deployed) -> tuple[bytes, dict[str, Shaped[np.ndarray, "..."]]]:
    """Return what sessions of chips are opened from, and arrays that each of them gets as well.

    Stored weights are marked as external. Of a network of many bytes the other initializers that
    are large are handed over in the same way: those in the file are there three times more while a
    session opens. Of such a network, `halved_weights` are handed over as float16.

    Raises:
        ModelNotCoveredError: They do not fit, and cannot be handed over.
    """
    model, names = deployed.model, deployed.weight_names
    if _is_small(model):
        return template_bytes(deployed), {}
    stored, handed = frozenset(names), _ANY_KIND if is_large(model) else _FLOATS
    least = 0 if is_large(model) else _LEAST_FLOATS
    others = {
        tensor.name: values
        for tensor in large_initializers(model)
        if tensor.name not in stored
        and num_bytes(tensor) >= least
        and (values := decode(tensor)).dtype.kind in handed
    }
    given = {*names, *others}
    apart = sum(num_bytes(t) for t in model.graph.initializer if t.name in given)
    require_one_message(
        tensor_bytes(model) - apart,
        what="what a network holds beside large tensors",
        where="deployed network",
        hint=SMALLER,
    )
    return external_bytes(model, [*names, *others], halves=halved_weights(deployed)), others


def external_bytes(
    model: onnx.ModelProto, names: Sequence[str], *, halves: frozenset[str] = frozenset()
) -> bytes:
    """Return a model with initializers marked as external.

    They are for onnxruntime's SessionOptions.add_external_initializers. The weights given to a
    session are then in place before the graph is optimised.

    Args:
        model: The model.
        names: The initializers.
        halves: Those of them that are given as float16, of `half_weights.read_as_halves`.
    """
    stored = frozenset(names)
    template = without_data(model, stored)
    take_halves(template, halves)
    for tensor in template.graph.initializer:
        if tensor.name in stored:
            mark_external(tensor, location=TEMPLATE_LOCATION, offset=0, length=num_bytes(tensor))
    return bytes(template.SerializeToString())


def _is_small(model: onnx.ModelProto) -> bool:
    return tensor_bytes(model) <= MOST_SESSION_BYTES and not is_large(model)
