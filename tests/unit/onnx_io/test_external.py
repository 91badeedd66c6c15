"""External data: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cimrobust.errors import InputRefusedError
from cimrobust.onnx_io.load_network import load_network

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a model in a folder of its own whose weight is external, with given entries."""

    def make(**entries: str) -> Path:
        model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> g (float[N, 4] x) => (float[N, 3] y) <float[4,'
            " 3] W> { y = MatMul(x, W) }"
        )
        del model.graph.initializer[:]
        tensor = model.graph.initializer.add(
            name="W", data_type=onnx.TensorProto.FLOAT, dims=[4, 3]
        )
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "w.bin", **entries}.items():
            tensor.external_data.add(key=key, value=value)
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "w.bin").write_bytes(VALUES.tobytes() + b"more")
        (tmp_path / "outside.bin").write_bytes(VALUES.tobytes())
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        return folder / "model.onnx"

    return make


def test_external_data_is_read_and_hashed(make: Make) -> None:
    network = load_network(make(offset="0", length="48", checksum="any"))
    np.testing.assert_array_equal(network.initializers["W"], VALUES)
    assert [file.name for file in network.files] == ["model.onnx", "w.bin"]
    assert network.files[1].sha256 == hashlib.sha256(VALUES.tobytes() + b"more").hexdigest()
    assert network.files[1].num_bytes == 52


def test_external_data_may_lie_in_a_folder_below(make: Make) -> None:
    path = make(location="sub/w.bin")
    (path.parent / "sub").mkdir()
    (path.parent / "w.bin").rename(path.parent / "sub" / "w.bin")
    np.testing.assert_array_equal(load_network(path).initializers["W"], VALUES)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "../outside.bin"}, "plain relative name"),
        ({"location": "sub/../../outside.bin"}, "plain relative name"),
        ({"location": "/etc/passwd"}, "plain relative name"),
        ({"location": ""}, "plain relative name"),
        ({"location": "."}, "plain relative name"),
        ({"location": "a\\b"}, "plain relative name"),
        ({"location": "C:w.bin"}, "plain relative name"),
        ({"location": "w.bin\0x"}, "plain relative name"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "plain file"),
        ({"location": "absent.bin"}, "No such file"),
        ({"offset": "-4"}, "offset must be an integer"),
        ({"offset": "1e3"}, "offset must be an integer"),
        ({"offset": "99999999999999999999999"}, "offset must be an integer"),
        ({"offset": "8"}, "must have at least 56 bytes, got 52"),
        ({"length": "-48"}, "length must be an integer"),
        ({"length": "44"}, "length must be 48 bytes"),
        ({"length": "52"}, "length must be 48 bytes"),
        ({"basepath": "/"}, "unknown keys"),
    ],
)
def test_unsafe_external_data_is_refused(make: Make, entries: dict[str, str], says: str) -> None:
    path = make(**entries)
    with pytest.raises(InputRefusedError) as caught:
        load_network(path)
    assert says in str(caught.value)
    assert "'W'" in str(caught.value)
    assert str(path) in str(caught.value)


def refused(path: Path, says: str) -> None:
    with pytest.raises(InputRefusedError, match=says):
        load_network(path)


def test_a_symbolic_link_is_refused(make: Make) -> None:
    path = make()
    (path.parent / "w.bin").unlink()
    (path.parent / "w.bin").symlink_to(path.parent.parent / "outside.bin")
    refused(path, "links are not followed")


def test_a_linked_folder_is_refused(make: Make) -> None:
    path = make(location="sub/outside.bin")
    (path.parent / "sub").symlink_to(path.parent.parent)
    refused(path, "links are not followed")


def test_a_hard_link_is_refused(make: Make) -> None:
    path = make()
    os.link(path.parent / "w.bin", path.parent.parent / "second.bin")
    refused(path, "external data file must have one name only, got a hard link")


def test_a_pipe_is_refused_without_waiting(make: Make) -> None:
    path = make()
    (path.parent / "w.bin").unlink()
    os.mkfifo(path.parent / "w.bin")
    refused(path, "regular file")


def test_a_folder_is_refused(make: Make) -> None:
    path = make()
    (path.parent / "w.bin").unlink()
    (path.parent / "w.bin").mkdir()
    refused(path, "hard link|regular file")


def test_a_short_file_is_refused(make: Make) -> None:
    path = make()
    (path.parent / "w.bin").write_bytes(VALUES.tobytes()[:-1])
    refused(path, "must have at least 48 bytes, got 47")


def test_doubled_keys_are_refused(make: Make) -> None:
    path = make()
    model = onnx.ModelProto.FromString(path.read_bytes())
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    path.write_bytes(model.SerializeToString())
    refused(path, "doubled")


def test_external_data_of_an_attribute_is_checked_too(make: Make, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[4] x) => (float[4] y) { c = Constant'
        " <value = float[4] {1, 2, 3, 4}> () y = Add(x, c) }"
    )
    tensor = model.graph.node[0].attribute[0].t
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../outside.bin")
    path = make().with_name("attribute.onnx")
    path.write_bytes(model.SerializeToString())
    refused(path, "plain relative name")


def test_of_a_file_only_the_data_of_tensors_are_held(make: Make) -> None:
    path = make(offset=str(2**25))
    with (path.parent / "w.bin").open("wb") as stream:  # 32 MB before the data, and 32 behind
        stream.seek(2**25)
        stream.write(VALUES.tobytes())
        stream.truncate(2**26)
    tracemalloc.start()
    try:
        network = load_network(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(network.initializers["W"], VALUES)
    assert network.files[1].num_bytes == 2**26
    assert peak < 2e7  # two chunks of 4 MB


def test_tensors_may_share_bytes_of_a_file(make: Make) -> None:
    path = make(offset="0")
    model = onnx.ModelProto.FromString(path.read_bytes())
    for name, offset, rows in (("tied", 0, 4), ("part", 12, 2), ("behind", 40, 1)):
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(model.graph.initializer[0])
        tensor.name, tensor.dims[0] = name, rows
        del tensor.external_data[:]
        for key, value in {"location": "w.bin", "offset": str(offset)}.items():
            tensor.external_data.add(key=key, value=value)
        model.graph.node.add(op_type="Identity", input=[name], output=[f"{name}_out"])
        model.graph.output.add(name=f"{name}_out").type.tensor_type.elem_type = 1
    path.write_bytes(model.SerializeToString())
    (path.parent / "w.bin").write_bytes(VALUES.tobytes() + VALUES[:1].tobytes())
    network = load_network(path)
    np.testing.assert_array_equal(network.initializers["tied"], VALUES)
    np.testing.assert_array_equal(network.initializers["part"], VALUES[1:3])
    assert (
        network.initializers["behind"].tobytes() == (VALUES.tobytes() + VALUES[:1].tobytes())[40:52]
    )
