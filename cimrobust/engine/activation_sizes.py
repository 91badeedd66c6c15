"""How large the activations of a network are, from its graph alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cimrobust.onnx_io.shapes import infer_types

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed

_ELEMENT = 4  # bytes of a float32, in which nearly all are computed


def activation_bytes(deployed: Deployed) -> int:
    """Return the bytes of all activations of one sample together.

    What a backward run keeps, at most; axes whose length is not known count as one.
    """
    types = infer_types(deployed.model, strict=False)
    stored = {tensor.name for tensor in deployed.model.graph.initializer}
    return _ELEMENT * sum(
        math.prod(dim for dim in kind.shape[1:] if isinstance(dim, int))
        for name, kind in types.items()
        if name not in stored and kind.shape
    )
