"""ONNX test data: tensors in protobuf files, as the ONNX project ships them beside its models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from cimrobust.errors import InputRefusedError

_MAX_BYTES = 2**31 - 1


def read_tensor(path: Path) -> tuple[str, np.ndarray]:
    """Read one ``input_N.pb`` or ``output_N.pb`` file.

    Returns:
        The name in the file, which may be empty, and the array.

    Raises:
        InputRefusedError: The file is not a tensor, or its data does not fit its shape.
    """
    hint = "write it with onnx.numpy_helper.from_array"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputRefusedError(f"tensor file must be under 2 GiB, got {path.stat().st_size} bytes ({path}); {hint}")
        tensor = onnx.TensorProto.FromString(path.read_bytes())
    except OSError as err:
        raise InputRefusedError(f"tensor file must be readable, got {err.strerror} ({path}); check the path") from err
    except DecodeError as err:
        raise InputRefusedError(f"tensor file must be an ONNX tensor, got something else ({path}); {hint}") from err
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.data_type not in onnx.TensorProto.DataType.values():
        raise InputRefusedError(f"tensor file must hold its own data of a known type, got type {tensor.data_type} ({path}); {hint}")
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, RuntimeError) as err:
        raise InputRefusedError(f"tensor file must fit its own shape, got: {err} ({path}); {hint}") from err
    if min(tensor.dims, default=0) < 0 or array.size != math.prod(tensor.dims):
        raise InputRefusedError(f"tensor file must fit its own shape, got {list(tensor.dims)} for {array.size} values ({path}); {hint}")
    return tensor.name, array
