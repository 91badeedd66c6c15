"""ONNX test data: tensors in protobuf files, as the ONNX project ships them beside its models."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from cimrobust.errors import InputRefusedError
from cimrobust.input_file import FileKind, read_input, refusing_what_fails
from cimrobust.onnx_io.tensors import data_problem, form_problem
from cimrobust.printable_text import printable

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

_HINT = "write it with onnx.numpy_helper.from_array"
_TENSOR = FileKind("tensor file", 2**31 - 1, missing=InputRefusedError)


def read_tensor(path: Path) -> tuple[str, Shaped[np.ndarray, "..."], str]:
    """Read one ``input_N.pb`` or ``output_N.pb`` file.

    Returns:
        The name in the file, which may be empty, the array, and the SHA-256 digest of the file.

    Raises:
        InputRefusedError: The file is not a tensor, or its data does not fit its shape.
    """
    content = read_input(path, _TENSOR)
    with refusing_what_fails("tensor file must be an ONNX tensor", path, hint=_HINT):
        tensor = onnx.TensorProto.FromString(content)
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise InputRefusedError(
            f"tensor file must hold its own data, got external data ({printable(path)}); {_HINT}"
        )
    problem = form_problem(tensor) or data_problem(tensor)
    if problem:
        raise InputRefusedError(
            f"tensor file must fit its own type and shape, got: {printable(problem)}"
            f" ({printable(path)}); {_HINT}"
        )
    with refusing_what_fails("tensor file must fit its own shape", path, hint=_HINT):
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
    if array.size != math.prod(tensor.dims):
        raise InputRefusedError(
            f"tensor file must fit its own shape, got {list(tensor.dims)} for {array.size} values"
            f" ({printable(path)}); {_HINT}"
        )
    return tensor.name, array, hashlib.sha256(content).hexdigest()
