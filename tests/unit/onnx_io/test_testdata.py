"""Tensor files of ONNX test data, which nobody vouches for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from cimrobust.errors import InputRefusedError
from cimrobust.onnx_io.testdata import read_tensor

WHOLE = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "x")


def changed(**values: object) -> onnx.TensorProto:
    tensor = TensorProto()
    tensor.CopyFrom(WHOLE)
    for name, value in values.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)  # type: ignore[arg-type]
        else:
            setattr(tensor, name, value)
    return tensor


def test_a_tensor_comes_back(tmp_path: Path) -> None:
    (tmp_path / "input_0.pb").write_bytes(WHOLE.SerializeToString())
    name, array, _ = read_tensor(tmp_path / "input_0.pb")
    assert (name, array.tolist()) == ("x", [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff" * 9, "tensor file must be an ONNX tensor"),
        (
            changed(data_location=TensorProto.EXTERNAL).SerializeToString(),
            "tensor file must hold its own data, got external data",
        ),
        (
            changed(dims=[2, 4]).SerializeToString(),
            "tensor file must fit its own type and shape, got",
        ),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "input_0.pb").write_bytes(content)
    with pytest.raises(InputRefusedError, match=rf"{message}.*input_0\.pb") as caught:
        read_tensor(tmp_path / "input_0.pb")
    assert caught.value.exit_code == 5
