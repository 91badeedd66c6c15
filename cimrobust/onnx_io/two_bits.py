"""Integers of 2 bits, which are younger than most runtimes, held as integers of 8 bits.

onnxruntime 1.32 multiplies with dequantised 2-bit weights as if their levels were others wherever
it optimises, so the file cannot be the reference of itself.
"""

from __future__ import annotations

import numpy as np
import onnx

from cimrobust.onnx_io.tensors import TWO_BIT_TYPES, decode, encode
from cimrobust.onnx_io.walk import all_nodes


def widen_two_bits(model: onnx.ModelProto) -> list[str]:
    """Give initializers of 2-bit integers that are only dequantised a type of 8 bits, in place.

    Return their names.
    """
    short = {tensor.name for tensor in model.graph.initializer if tensor.data_type in TWO_BIT_TYPES}
    if not short:
        return []
    dequantised: list[set[str]] = []
    for node in all_nodes(model.graph):
        read = short.intersection(node.input)
        if read and node.op_type != "DequantizeLinear":
            short -= read
        elif read:
            dequantised.append({name for name in (node.input[0], *node.input[2:3]) if name})
    for group in dequantised:  # levels and zero points are of one type
        if not group <= short:
            short -= group
    for tensor in model.graph.initializer:
        if tensor.name in short:
            values = decode(tensor)
            kind = np.int8 if tensor.data_type == TWO_BIT_TYPES[1] else np.uint8
            tensor.CopyFrom(encode(values.astype(kind), tensor.name))
    return sorted(short)
