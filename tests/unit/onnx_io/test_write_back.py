"""Writing trained weights back: nothing of the file changes but the data of the tensors named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser

from cimrobust.errors import InputRefusedError, ModelNotCoveredError
from cimrobust.onnx_io.write_back import require_stored, write_back

TEXT = """
<ir_version: 8, opset_import: ["" : 13], producer_name: "somebody", doc_string: "kept">
net (float[1, 3] x) => (float[1, 2] y) <float[3, 2] w> {
  c = Constant <value = float[2] {0.5, 1.5}> ()
  h = MatMul(x, w)
  y = Add(h, c)
}
"""


def saved(path: Path, **tensors) -> Path:
    model = parser.parse_model(TEXT)
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors.values())
    entry = model.metadata_props.add()
    entry.key, entry.value = "author", "me"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def without_data(path: Path) -> bytes:
    """The file with the data of all tensors taken out."""
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    tensors = [
        *model.graph.initializer,
        *(a.t for n in model.graph.node for a in n.attribute if a.name == "value"),
    ]
    for tensor in tensors:
        for field in ("raw_data", "float_data", "int32_data", "double_data"):
            tensor.ClearField(field)
    return model.SerializeToString(deterministic=True)


def tensor(kind: int, how: str) -> TensorProto:
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    if how == "raw":
        return numpy_helper.from_array(
            values.astype(onnx.helper.tensor_dtype_to_np_dtype(kind)), "w"
        )
    return onnx.helper.make_tensor("w", kind, [3, 2], values.reshape(-1).tolist())


@pytest.mark.parametrize("how", ["raw", "typed"])
@pytest.mark.parametrize(
    "kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16]
)
def test_only_the_data_changes(tmp_path, kind, how):
    path = saved(tmp_path / "m.onnx", w=tensor(kind, how))
    new = np.array([[1, -2], [0.5, 4], [8, -0.25]], np.float32)
    write_back(path, tmp_path / "out.onnx", {"w": new, "c": np.array([3, 4], np.float32)})
    written = onnx.load(tmp_path / "out.onnx")
    np.testing.assert_array_equal(
        numpy_helper.to_array(written.graph.initializer[0]).astype(np.float32), new
    )
    np.testing.assert_array_equal(
        numpy_helper.to_array(written.graph.node[0].attribute[0].t), [3, 4]
    )
    assert without_data(tmp_path / "out.onnx") == without_data(path)
    assert written.graph.initializer[0].HasField("raw_data") == (how == "raw")


@pytest.mark.parametrize("how", ["raw", "typed"])
@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4])
def test_integers_are_written_as_integers(tmp_path, kind, how):
    path = saved(tmp_path / "m.onnx", w=tensor(kind, how))
    levels = np.array([[0, 1], [2, 3], [7, 5]])
    write_back(path, tmp_path / "out.onnx", {"w": levels.astype(np.float32)}, {"w": levels})
    written = onnx.load(tmp_path / "out.onnx").graph.initializer[0]
    np.testing.assert_array_equal(numpy_helper.to_array(written).astype(np.int64), levels)
    assert without_data(tmp_path / "out.onnx") == without_data(path)


def test_external_data_keeps_file_offset_and_length(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    model = parser.parse_model(TEXT)
    del model.graph.initializer[:]
    held = model.graph.initializer.add()
    held.CopyFrom(numpy_helper.from_array(np.zeros((3, 2), np.float32), "w"))
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "16"), ("length", "24")):
        held.external_data.add(key=key, value=value)
    (tmp_path / "a" / "m.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (tmp_path / "a" / "w.bin").write_bytes(bytes(range(64)))
    new = np.arange(6, dtype=np.float32).reshape(3, 2)
    files = write_back(tmp_path / "a" / "m.onnx", tmp_path / "b" / "m.onnx", {"w": new})
    assert {path.name for path in files} == {"m.onnx", "w.bin"}
    assert (tmp_path / "b" / "m.onnx").read_bytes() == (tmp_path / "a" / "m.onnx").read_bytes()
    content = (tmp_path / "b" / "w.bin").read_bytes()
    assert content[:16] == bytes(range(16))
    assert content[40:] == bytes(range(40, 64))
    np.testing.assert_array_equal(np.frombuffer(content[16:40], np.float32).reshape(3, 2), new)


def test_external_data_outside_the_folder_are_left_alone(tmp_path):
    outside = tensor(TensorProto.FLOAT, "raw")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "../w.bin"
    path = saved(tmp_path / "m.onnx", w=outside)
    with pytest.raises(InputRefusedError, match=r"tensor 'w': .*; keep external data beside the"):
        write_back(path, tmp_path / "out.onnx", {"w": np.zeros((3, 2), np.float32)})


def test_tensors_that_the_file_does_not_hold_are_named(tmp_path):
    path = saved(tmp_path / "m.onnx", w=tensor(TensorProto.FLOAT, "raw"))
    with pytest.raises(
        ModelNotCoveredError, match=r"got 'folded', which it computes from others .*freeze them"
    ):
        write_back(path, tmp_path / "out.onnx", {"folded": np.zeros(2, np.float32)})


BODIES = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[1, 3] x, bool c) => (float[1, 2] y) {
  y = If(c) <
    then_branch = first () => (float[1, 2] a) <float[3, 2] w, float[3, 2] u = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0}> { s = Add(w, u)
      a = MatMul(x, s) },
    else_branch = second () => (float[1, 2] b) <float[3, 2] w, float[3, 2] v = {2.0, 2.0, 2.0, 2.0, 2.0, 2.0}> { t = Add(w, v)
      b = MatMul(x, t) }>
}
"""  # noqa: E501


def test_tensors_of_bodies_are_written_where_their_name_is_theirs_alone(tmp_path):
    model = parser.parse_model(BODIES)
    for attribute in model.graph.node[0].attribute:
        attribute.g.initializer.append(numpy_helper.from_array(np.zeros((3, 2), np.float32), "w"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString(deterministic=True))
    new = np.arange(6, dtype=np.float32).reshape(3, 2)
    write_back(tmp_path / "m.onnx", tmp_path / "out.onnx", {"v": new})
    written = {
        a.name: {t.name: numpy_helper.to_array(t) for t in a.g.initializer}
        for a in onnx.load(tmp_path / "out.onnx").graph.node[0].attribute
    }
    np.testing.assert_array_equal(written["else_branch"]["v"], new)
    np.testing.assert_array_equal(written["then_branch"]["u"], np.ones((3, 2)))
    for name in ("w", "w.1"):
        with pytest.raises(ModelNotCoveredError, match=f"got '{name}'"):
            require_stored(tmp_path / "m.onnx", {name: (3, 2)})
