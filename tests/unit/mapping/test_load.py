"""How full arrays are and how often converters work, against counts done by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import TileTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.chip_load import ArrayLoad, array_load
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.vectors import vectors_per_sample


def _profile(**changes: object) -> DeviceProfile:
    tables = {
        "dac": DacTable(8, bits_per_pass=2),
        "adc": AdcTable(8),
        "tile": TileTable(16, 8),
        **changes,
    }
    return replace(load_profile("rram-write-verify-3pct"), **tables)


def _load(
    path: Path,
    op: str,
    shape: list[int | str],
    weight: tuple[int, ...],
    profile: DeviceProfile,
    **attributes: object,
) -> ArrayLoad:
    inputs = ["w", "x"] if attributes.pop("left", False) else ["x", "w"]
    outputs, more = ["y"], []
    if op == "LSTM":
        more = [
            numpy_helper.from_array(
                np.ones((weight[0], weight[1], weight[1] // 4), np.float32), "r"
            )
        ]
        inputs.append("r")
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs, name="node", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(weight, np.float32), "w"), *more],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    network = load_network(path)
    scan = scan_layers(network)
    vectors = vectors_per_sample(network, scan)
    return array_load(place(scan, profile).tensors["w"], [vectors["node"]])


def test_convolution(tmp_path: Path) -> None:
    load = _load(
        tmp_path / "m.onnx", "Conv", ["n", 3, 8, 10], (4, 3, 3, 3), _profile(), strides=[2, 1]
    )
    # 3 x 8 pixels; 27 rows on 2 tiles of 16; 4 slices of 4 columns on 2 tiles of 8; 8 bits sent by
    # 2.
    assert load == ArrayLoad(
        utilisation=4 * 27 * 4 / (4 * 16 * 8), vectors=24, passes=4, conversions=24 * 4 * 2 * 4 * 4
    )


def test_each_group_has_its_own_arrays_and_vectors(tmp_path: Path) -> None:
    load = _load(tmp_path / "m.onnx", "Conv", ["n", 4, 6, 6], (4, 1, 3, 3), _profile(), group=4)
    assert (load.vectors, load.conversions) == (16, 16 * 4 * 4 * 1 * 4)
    assert load.utilisation == pytest.approx(9 * 4 / (16 * 8))


@pytest.mark.parametrize(
    ("op", "shape", "weight", "attributes", "vectors"),
    [
        ("MatMul", ["n", 7, 5], (5, 6), {}, 7),
        ("MatMul", ["n", 5, 7], (6, 5), {"left": True}, 7),
        ("MatMul", ["n", 3, 7, 5], (3, 5, 6), {}, 7),
        ("Gemm", ["n", 5], (5, 6), {}, 1),
        ("Gemm", [4, 5], (5, 6), {}, 1),
        ("ConvTranspose", ["n", 4, 5, 5], (4, 2, 3, 3), {}, 25),
        ("LSTM", [9, "n", 5], (1, 8, 5), {"hidden_size": 2}, None),
        ("MatMul", ["n", "length", 5], (5, 6), {}, None),
    ],
)
def test_vectors_of_one_sample(
    tmp_path: Path, op: str, shape: list, weight: tuple, attributes: dict, vectors: int | None
) -> None:
    load = _load(tmp_path / "m.onnx", op, shape, weight, _profile(), **attributes)
    assert load.vectors == vectors
    assert (load.conversions is None) == (vectors is None)


def test_without_converters_nothing_is_converted(tmp_path: Path) -> None:
    load = _load(tmp_path / "m.onnx", "Gemm", ["n", 5], (5, 6), _profile(dac=None, adc=None))
    assert (load.passes, load.conversions) == (1, None)


@pytest.mark.parametrize(
    ("dac", "signed", "passes"),
    [
        (DacTable(8), False, 1),
        (DacTable(8, 1), False, 8),
        (DacTable(8, 1), True, 7),
        (DacTable(4, 3), False, 2),
    ],
)
def test_passes(dac: DacTable, signed: bool, passes: int) -> None:
    assert dac.num_passes(signed=signed) == passes
