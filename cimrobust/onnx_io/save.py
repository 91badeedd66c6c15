"""A network with other weights, as a model of its own and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from cimrobust.errors import ModelNotCoveredError
from cimrobust.files import write_whole
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.problems import one_line
from cimrobust.onnx_io.tensors import encode

#: A model that is handed from `with_weights` to `save_model`; callers need not know what it is.
Model = onnx.ModelProto


def with_weights(deployed: Deployed, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return the deployed model with other values in its stored initializers.

    Args:
        deployed: The network.
        weights: float32 values by initializer name, own shapes; initializers not named keep their
            values.

    Raises:
        ValueError: A name is not stored, or a shape or type differs.
    """
    for name, values in weights.items():
        expected = deployed.weight_shapes.get(name)
        if expected is None or tuple(values.shape) != tuple(expected) or values.dtype != np.float32:
            raise ValueError(
                f"weight '{name}' must be stored, float32 and of shape {expected}, got"
                f" {values.dtype} of shape {values.shape}"
            )
    model = onnx.ModelProto()
    model.CopyFrom(deployed.model)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(encode(weights[tensor.name], tensor.name))
    return model


def with_initializers(network: Network, weights: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return the model of a network with other values in some initializers.

    The initializers must be in the network, of the same shape and type.

    Raises:
        ValueError: A name is not stored, or a shape or type differs.
    """
    for name, values in weights.items():
        stored = network.initializers.get(name)
        if stored is None or stored.shape != values.shape or stored.dtype != values.dtype:
            raise ValueError(
                f"weight '{name}' must be stored with the same shape and type, got {values.dtype}"
                f" of shape {values.shape}"
            )
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(encode(weights[tensor.name], tensor.name))
    return model


def save_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model so that the file appears whole or not at all.

    Raises:
        ModelNotCoveredError: It does not fit in one ONNX file.
    """
    path = Path(path)
    write_whole(path, to_bytes(model, path))


def to_bytes(model: onnx.ModelProto, path: Path) -> bytes:
    """Return a model as the content of a file.

    Raises:
        ModelNotCoveredError: It does not fit in one ONNX file; names `path`.
    """
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as err:  # protobuf raises different kinds for messages over its limit
        raise ModelNotCoveredError(
            f"model must fit in one ONNX file of 2 GiB, got '{one_line(err)}' ({one_line(path)});"
            " analyse a smaller model"
        ) from err
