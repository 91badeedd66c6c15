"""Parsing a model in parts: equal to parsing it whole, whatever the bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cimrobust.errors import InputRefusedError
from cimrobust.onnx_io import parsed_model
from cimrobust.onnx_io.model_files import model_kind
from cimrobust.onnx_io.parsed_model import read_model, read_without_data

KIND = model_kind(2**31 - 1)
LARGE = 16


def field(number: int, content: bytes) -> bytes:
    """Return a field of short content, as protobuf writes it."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def tensor(*data: bytes) -> bytes:
    """Return an initializer with as many fields of raw data, which come first."""
    return field(5, b"".join(field(9, part) for part in data) + bytes([1 << 3, 4, 2 << 3, 1]))


def whole(content: bytes) -> onnx.ModelProto | None:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return None
    return model


def in_parts(folder, content: bytes, *, large: int = LARGE) -> onnx.ModelProto | None:
    path = folder / "model.onnx"
    path.write_bytes(content)
    try:
        model, digest = read_model(path, KIND, large=large)
    except DecodeError:
        return None
    assert digest.sha256 == hashlib.sha256(content).hexdigest()
    assert digest.num_bytes == len(content)
    return model


def small_model() -> bytes:
    stream = np.random.default_rng(0)
    weights = [stream.standard_normal((5, 5)).astype(np.float32) for _ in range(3)]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MatMul", ["x", "w0"], ["a"]),
            onnx.helper.make_node("Add", ["a", "w1"], ["b"]),
            onnx.helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ],
        "graph",
        [onnx.helper.make_tensor_value_info("x", 1, ["N", 5])],
        [onnx.helper.make_tensor_value_info("y", 1, ["N", 5])],
        [onnx.numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(weights)],
    )
    return onnx.helper.make_model(graph).SerializeToString()


SMALL = small_model()
GROUP = bytes([15 << 3 | 3, 15 << 3 | 4])  # an unknown field of a kind that nothing writes


@pytest.mark.parametrize("large", [1, 16, 101, 2**20])
def test_a_model_in_parts_is_the_model(tmp_path, large):
    assert in_parts(tmp_path, SMALL, large=large) == whole(SMALL)


def test_data_are_taken_out_of_what_is_parsed(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(SMALL)
    with path.open("rb") as stream:
        parts = parsed_model._Parts(stream, len(SMALL), LARGE)
        parts.read()
    assert {index: len(data) for index, data in parts.data.items()} == {0: 100, 1: 100, 2: 100}
    rest = whole(SMALL)
    for item in rest.graph.initializer:
        item.raw_data = b""
    assert whole(parts.joined()) == rest
    assert parts.joined() == b""


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, len(SMALL)),
    more=st.binary(max_size=20),
)
@example(changes=[], cut=len(SMALL), more=SMALL[:20])
def test_damaged_bytes_are_read_as_protobuf_reads_them(tmp_path, changes, cut, more):
    content = bytearray(SMALL)
    for place, value in changes:
        content[place] = value
    damaged = bytes(content[:cut]) + more
    assert in_parts(tmp_path, damaged) == whole(damaged)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(field(7, tensor(b"a" * 20)) + field(7, tensor(b"b" * 20)), id="two graphs"),
        pytest.param(field(7, tensor(b"a" * 20, b"b" * 20)), id="the last data count"),
        pytest.param(field(7, tensor(b"a" * 20, b"b")), id="small data after large ones"),
        pytest.param(field(7, tensor(b"a", b"b" * 20)), id="large data after small ones"),
        pytest.param(field(7, tensor(b"a" * 20, b"")), id="no data after large ones"),
        pytest.param(
            field(7, field(5, field(9, b"a" * 20) + GROUP + field(9, b"b"))),
            id="data after what is not walked",
        ),
        pytest.param(
            field(7, GROUP + tensor(b"a" * 20)) + field(7, tensor(b"b" * 20)),
            id="a graph after what is not walked",
        ),
        pytest.param(
            field(7, field(5, bytes([9 << 3 | 2, 0x94, 0x80, 0x00]) + b"a" * 20)),
            id="a length in more bytes than it takes",
        ),
        pytest.param(
            field(7, field(5, bytes([0xCA, 0x80, 0x00, 20]) + b"a" * 20)),
            id="a tag in more bytes than it takes",
        ),
        pytest.param(field(7, field(5, bytes([9 << 3 | 2, 99]) + b"a" * 20)), id="data that end"),
        pytest.param(field(7, field(5, bytes([9 << 3]) + b"\xff" * 11)), id="an endless number"),
        pytest.param(field(7, field(5, bytes([9 << 3 | 5]) + b"abc")), id="a fixed field cut off"),
        pytest.param(field(7, field(5, bytes([9 << 3 | 5]) + b"abcd")), id="a fixed field"),
        pytest.param(b"\xff" * 9 + b"\x01", id="a tag of 64 bits"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_unusual_bytes_are_read_as_protobuf_reads_them(tmp_path, content):
    assert in_parts(tmp_path, content) == whole(content)


def test_a_file_of_very_many_fields_is_parsed_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(parsed_model, "_MOST_FIELDS", 12)
    assert in_parts(tmp_path, SMALL) == whole(SMALL)


@pytest.mark.parametrize(("stated", "got"), [(3, len(SMALL)), (-3, len(SMALL) - 2)])
def test_a_file_that_changes_is_refused(tmp_path, monkeypatch, stated, got):
    path = tmp_path / "model.onnx"
    path.write_bytes(SMALL)

    class Status:
        st_size = len(SMALL) + stated

    monkeypatch.setattr(parsed_model.os, "fstat", lambda descriptor: Status)
    monkeypatch.setattr("cimrobust.input_file.require_kind", lambda *_: None)
    with pytest.raises(
        InputRefusedError,
        match=f"must not change while it is read, got {got} of {Status.st_size} bytes",
    ):
        read_model(path, KIND)


_PEAK = r"""
import re, sys
from cimrobust.pipeline.inspection import inspect_model
inspect_model(sys.argv[1], device="rram-write-verify-3pct").to_dict()
print(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read()).group(1))
"""


def _peak_of_inspecting(path, rows: int, columns: int) -> int:
    """Return the largest memory of a process that inspects a product, in bytes."""
    weight = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [onnx.helper.make_tensor_value_info("x", 1, ["N", rows])],
        [onnx.helper.make_tensor_value_info("y", 1, ["N", columns])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    onnx.save(onnx.helper.make_model(graph, ir_version=10), path)
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, path],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return 1024 * int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_inspecting_one_large_layer_holds_its_values_about_twice(tmp_path):
    # The worst case: one layer is the whole network. It was there eight times.
    path = tmp_path / "large.onnx"
    before, peak = (_peak_of_inspecting(path, rows, 4096) for rows in (1, 4096))
    assert peak - before < 2.8 * 4 * 4096 * 4096


def test_data_of_large_tensors_are_read_hashed_and_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(parsed_model, "_LARGE", LARGE)
    monkeypatch.setattr(parsed_model, "_SKIPPED", 7)
    content, path = small_model(), tmp_path / "model.onnx"
    path.write_bytes(content)
    bare, digest = read_without_data(path, KIND)
    assert digest.sha256 == hashlib.sha256(content).hexdigest()
    assert digest.num_bytes == len(content)
    model, expected = whole(bare), whole(content)
    assert model is not None
    assert expected is not None
    assert [tensor.raw_data for tensor in model.graph.initializer] == [b""] * 3
    for tensor in expected.graph.initializer:
        tensor.raw_data = b""
    assert model == expected
