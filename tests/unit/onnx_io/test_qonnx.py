"""Quantisers of QONNX, against the formulas of their descriptions in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cimrobust.device.load_profile import load_profile
from cimrobust.engine.original_file import run_original
from cimrobust.errors import ModelNotCoveredError
from cimrobust.mapping.place import place
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.write_back import require_stored
from cimrobust.twin.to_torch import to_torch

RNG = np.random.default_rng(3)
X = (RNG.normal(size=(16, 6)) * 3).astype(np.float32)
X[0] = [-5.5, -2.5, -1.6, -1.1, -1.0, -0.5]
X[1] = [5.5, 2.5, 1.6, 1.1, 1.0, 0.0]
DOMAINS = ["onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general"]


def by_table(values: np.ndarray, mode: str) -> np.ndarray:
    """Round as the table of modes in the description of IntQuant does: by magnitude, then sign."""
    size, sign = np.abs(values), np.sign(values)
    modes: dict[str, Callable[[], np.ndarray]] = {
        "ROUND": lambda: np.round(values),
        "CEIL": lambda: np.ceil(values),
        "FLOOR": lambda: np.floor(values),
        "UP": lambda: sign * np.ceil(size),
        "DOWN": lambda: sign * np.floor(size),
        "HALF_UP": lambda: sign * np.floor(size + np.float32(0.5)),
        "HALF_DOWN": lambda: sign * np.ceil(size - np.float32(0.5)),
    }
    return modes[mode.upper()]()


def quantised(
    x: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    bits: int,
    *,
    signed: int,
    narrow: int,
    mode: str,
) -> np.ndarray:
    low = (-(2 ** (bits - 1)) + narrow) if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    return (by_table(np.clip(x / scale + zero, low, high), mode) - zero) * scale


def network(
    path: Path,
    nodes: list[onnx.NodeProto],
    arrays: Mapping[str, np.ndarray],
    domain: str,
    *,
    opset: int = 17,
    version: int = 1,
) -> Network:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(domain, version)]
    (path / "m.onnx").write_bytes(
        helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    )
    return load_network(path / "m.onnx")


def one(op: str, inputs: list[str], domain: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, ["y"], name="q", domain=domain, **attributes)


def numbers(scale: object = 0.5, zero: object = 0.0, bits: object = 4.0) -> dict[str, np.ndarray]:
    return {
        "s": np.asarray(scale, np.float32),
        "z": np.asarray(zero, np.float32),
        "b": np.asarray(bits, np.float32),
    }


@pytest.mark.parametrize(
    "mode", ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN", "half_up", "round"]
)
@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0), (0, 1)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_activations(tmp_path: Path, bits: int, signed: int, narrow: int, mode: str) -> None:
    node = one(
        "Quant", ["x", "s", "z", "b"], DOMAINS[0], signed=signed, narrow=narrow, rounding_mode=mode
    )
    loaded = network(tmp_path, [node], numbers(bits=float(bits)), DOMAINS[0])
    expected = quantised(
        X, np.float32(0.5), np.float32(0), bits, signed=signed, narrow=narrow, mode=mode
    )
    np.testing.assert_array_equal(run_original(loaded, {"x": X}), expected)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_every_domain_and_name(tmp_path: Path, domain: str, op: str) -> None:
    scale, zero = np.linspace(0.1, 1, 6, dtype=np.float32)[None], np.float32(3)
    node = one(op, ["x", "s", "z", "b"], domain, signed=0, narrow=0, rounding_mode="ROUND")
    loaded = network(tmp_path, [node], numbers(scale, zero, 3.0), domain)
    np.testing.assert_array_equal(
        run_original(loaded, {"x": X}),
        quantised(X, scale, zero, 3, signed=0, narrow=0, mode="ROUND"),
    )
    assert not loaded.runs_as_file
    assert any("onnxruntime has no operators of" in note for note in loaded.notes)


def test_two_halves_that_the_modes_tell_apart(tmp_path: Path) -> None:
    """The table of the description, row by row."""
    rows = np.array([5.5, 2.5, 1.6, 1.1, 1.0, -1.0, -1.1, -1.6, -2.5, -5.5], np.float32)
    table = {
        "ROUND": [6, 2, 2, 1, 1, -1, -1, -2, -2, -6],
        "CEIL": [6, 3, 2, 2, 1, -1, -1, -1, -2, -5],
        "FLOOR": [5, 2, 1, 1, 1, -1, -2, -2, -3, -6],
        "UP": [6, 3, 2, 2, 1, -1, -2, -2, -3, -6],
        "DOWN": [5, 2, 1, 1, 1, -1, -1, -1, -2, -5],
        "HALF_UP": [6, 3, 2, 1, 1, -1, -1, -2, -3, -6],
        "HALF_DOWN": [5, 2, 2, 1, 1, -1, -1, -2, -2, -5],
    }
    x = np.zeros((10, 6), np.float32)
    x[:, 0] = rows
    for mode, expected in table.items():
        node = one(
            "Quant", ["x", "s", "z", "b"], DOMAINS[0], signed=1, narrow=0, rounding_mode=mode
        )
        loaded = network(tmp_path, [node], numbers(1.0, 0.0, 8.0), DOMAINS[0])
        np.testing.assert_array_equal(run_original(loaded, {"x": x})[:, 0], expected, err_msg=mode)


@pytest.mark.parametrize("op", ["BipolarQuant", "Quant"])
def test_one_bit_is_a_sign_and_that_of_zero_is_1(tmp_path: Path, op: str) -> None:
    names = ["x", "s"] if op == "BipolarQuant" else ["x", "s", "z", "b"]
    more = {} if op == "BipolarQuant" else {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}
    arrays = numbers(0.25, 0.0, 1.0)
    loaded = network(
        tmp_path,
        [one(op, names, DOMAINS[1], **more)],
        {name: arrays[name] for name in names[1:]},
        DOMAINS[1],
    )
    np.testing.assert_array_equal(
        run_original(loaded, {"x": X}), np.where(X >= 0, np.float32(0.25), np.float32(-0.25))
    )


@pytest.mark.parametrize("mode", ["ROUND", "CEIL", "FLOOR"])
def test_trunc_of_the_first_version(tmp_path: Path, mode: str) -> None:
    arrays = {"s": np.float32(0.125), "z": np.float32(0), "i": np.float32(8), "o": np.float32(4)}
    loaded = network(
        tmp_path,
        [one("Trunc", ["x", "s", "z", "i", "o"], DOMAINS[2], rounding_mode=mode)],
        arrays,
        DOMAINS[2],
    )
    expected = by_table(np.round(X / np.float32(0.125)) / np.float32(16), mode) * np.float32(0.125)
    np.testing.assert_array_equal(run_original(loaded, {"x": X}), expected)


def test_trunc_of_the_second_version(tmp_path: Path) -> None:
    arrays = {
        "s": np.float32(0.125),
        "z": np.float32(0),
        "i": np.float32(8),
        "t": np.float32(0.5),
        "o": np.float32(4),
    }
    node = one(
        "Trunc",
        ["x", "s", "z", "i", "t", "o"],
        DOMAINS[1],
        rounding_mode="FLOOR",
        signed=1,
        narrow=0,
    )
    loaded = network(tmp_path, [node], arrays, DOMAINS[1], version=2)
    expected = np.floor(np.clip(np.round(X / np.float32(0.125)) / 4, -8, 7)) * np.float32(0.5)
    np.testing.assert_array_equal(run_original(loaded, {"x": X}), expected)


@pytest.mark.parametrize("channels", [1, 6])
def test_thresholds_are_counted(tmp_path: Path, channels: int) -> None:
    steps = np.sort(RNG.normal(size=(channels, 7)).astype(np.float32), axis=1)
    steps[0, 3] = X[2, 0]
    node = one(
        "MultiThreshold", ["x", "t"], DOMAINS[2], out_dtype="UINT3", out_scale=0.5, out_bias=-1.0
    )
    loaded = network(tmp_path, [node], {"t": steps}, DOMAINS[2])
    np.testing.assert_array_equal(
        run_original(loaded, {"x": X}), (X[..., None] >= steps).sum(axis=-1) * np.float32(0.5) - 1
    )


@pytest.mark.parametrize(
    ("node", "arrays", "reason"),
    [
        (one("FloatQuant", ["x", "s"], DOMAINS[1]), numbers(), "FloatQuant.*not covered"),
        (
            one("Quant", ["x", "s", "z", "x"], DOMAINS[1]),
            numbers(),
            "bit width 'x' must be one constant number",
        ),
        (
            one("Quant", ["x", "s", "z", "b"], DOMAINS[1]),
            numbers(bits=2.5),
            "bit width must be 1 to 32, got 2.5",
        ),
        (
            one("Quant", ["x", "s", "z", "b"], DOMAINS[1], rounding_mode="ODD"),
            numbers(),
            "its rounding_mode 'ODD' is not covered",
        ),
        (
            one("Quant", ["w", "s", "z", "b"], DOMAINS[1], rounding_mode="ODD"),
            {**numbers(), "w": np.ones((6, 6), np.float32)},
            "its rounding_mode 'ODD' is not covered",
        ),
        (
            one("Quant", ["w", "s", "z", "b"], DOMAINS[1]),
            {**numbers(scale=2.2e38), "w": np.full((6, 6), 3.4e38, np.float32)},
            "its weights, scales and zero points must give finite numbers",
        ),
        (
            one("Quant", ["x", "s", "z", "b"], DOMAINS[1]),
            numbers(bits=1.0, zero=1.0),
            "it has one bit and a zero point",
        ),
        (
            one("Trunc", ["x", "s", "z", "b", "b"], DOMAINS[1]),
            numbers(scale=-0.5),
            "its scales must be positive, got -0.5 and -0.5",
        ),
        (
            one("MultiThreshold", ["x", "t"], DOMAINS[1], data_layout="NHWC"),
            {"t": np.zeros((1, 3), np.float32)},
            "its data_layout 'NHWC' does not fit 2 axes",
        ),
        (one("Im2Col", ["x"], DOMAINS[1]), {}, "node 'q'.*operator domain that is not known"),
        (
            one("MultiThreshold", ["x", "x"], DOMAINS[1]),
            {},
            "thresholds 'x' must be a constant matrix of at most",
        ),
    ],
)
def test_what_is_not_covered_is_refused_by_name(
    tmp_path: Path, node: onnx.NodeProto, arrays: Mapping[str, np.ndarray], reason: str
) -> None:
    with pytest.raises(ModelNotCoveredError, match=reason):
        network(tmp_path, [node], arrays, DOMAINS[1])


def test_operator_sets_without_the_arithmetic_are_refused(tmp_path: Path) -> None:
    node = one("Quant", ["x", "s", "z", "b"], DOMAINS[1])
    with pytest.raises(
        ModelNotCoveredError,
        match="the model is of operator set 10, 11 or newer are covered; export it for a newer one",
    ):
        network(tmp_path, [node], numbers(), DOMAINS[1], opset=10)


def test_thresholds_of_three_axes_need_a_layout(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "a"], ["u"]),
        one("MultiThreshold", ["u", "t"], DOMAINS[1]),
    ]
    arrays = {"a": np.array([2]), "t": np.zeros((1, 3), np.float32)}
    with pytest.raises(ModelNotCoveredError, match="it has 3 axes and no data_layout"):
        network(tmp_path, nodes, arrays, DOMAINS[1])


def layer_network(
    path: Path,
    bits: float,
    scale: np.ndarray,
    *,
    narrow: int = 1,
    op: str = "Quant",
    zero: float = 0.0,
) -> tuple[Network, np.ndarray]:
    """Quantised weights [6, 3], used by one MatMul behind a quantiser of 4 bits."""
    weights = RNG.normal(size=(6, 3)).astype(np.float32)
    names = ["w", "ws"] if op == "BipolarQuant" else ["w", "ws", "wz", "wb"]
    more = {} if op == "BipolarQuant" else {"signed": 1, "narrow": narrow, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node(
            "Quant",
            ["x", "s", "z", "b"],
            ["a"],
            domain=DOMAINS[0],
            signed=1,
            narrow=0,
            rounding_mode="ROUND",
        ),
        helper.make_node(op, names, ["v"], domain=DOMAINS[0], **more),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
    ]
    arrays = {
        **numbers(),
        "w": weights,
        "ws": scale.astype(np.float32),
        "wz": np.float32(zero),
        "wb": np.float32(bits),
    }
    return (
        network(
            path,
            nodes,
            {name: array for name, array in arrays.items() if name in {*"szb", *names}},
            DOMAINS[0],
        ),
        weights,
    )


PER_TENSOR, PER_COLUMN = np.array(0.4), np.array([[0.2, 0.4, 0.9]])


@pytest.mark.parametrize("scale", [PER_TENSOR, PER_COLUMN])
@pytest.mark.parametrize(
    ("bits", "narrow", "magnitude", "slices"),
    [(2, 0, 2, 1), (2, 1, 1, 1), (3, 1, 2, 1), (4, 0, 4, 2), (5, 1, 4, 2), (8, 0, 8, 4)],
)
def test_weights_are_levels_of_so_many_bits(
    tmp_path: Path, scale: np.ndarray, bits: int, narrow: int, magnitude: int, slices: int
) -> None:
    loaded, weights = layer_network(tmp_path, bits, scale, narrow=narrow)
    (layer,) = scan_layers(loaded).layers
    expected = quantised(
        weights,
        scale.astype(np.float32),
        np.float32(0),
        bits,
        signed=1,
        narrow=narrow,
        mode="ROUND",
    )
    assert (layer.initializer, layer.shape, layer.bits) == ("w", (6, 3), magnitude)
    assert layer.levels is not None
    np.testing.assert_array_equal(layer.values, expected)
    assert (layer.scale_group is None) == (scale.size == 1)
    assert (
        place(scan_layers(loaded), load_profile("rram-write-verify-3pct")).tensors["w"].num_slices
        == slices
    )


def test_signs_take_one_device_each(tmp_path: Path) -> None:
    loaded, weights = layer_network(tmp_path, 1, PER_TENSOR, op="BipolarQuant")
    (layer,) = scan_layers(loaded).layers
    np.testing.assert_array_equal(
        layer.values, np.where(weights >= 0, np.float32(0.4), np.float32(-0.4))
    )
    tensor = place(scan_layers(loaded), load_profile("rram-write-verify-3pct")).tensors["w"]
    assert (layer.bits, tensor.num_slices, tensor.num_devices) == (1, 1, 18)
    np.testing.assert_allclose(tensor.box_radius, 0.03 * 0.4, rtol=1e-6)


def test_deployed_network_and_twin_compute_the_same(tmp_path: Path) -> None:
    loaded, weights = layer_network(tmp_path, 3, PER_COLUMN)
    scan = scan_layers(loaded)
    deployed = deploy(loaded, scan)
    given = quantised(X, np.float32(0.5), np.float32(0), 4, signed=1, narrow=0, mode="ROUND")
    expected = given @ quantised(
        weights, PER_COLUMN.astype(np.float32), np.float32(0), 3, signed=1, narrow=1, mode="ROUND"
    )
    np.testing.assert_allclose(run_original(loaded, {"x": X}), expected, atol=1e-5)
    twin = to_torch(deployed.model, weight_names=["w"])
    weight = twin.weights["w"].requires_grad_()
    twin.straight_through = True
    made = twin({"x": torch.from_numpy(X)}, {"w": weight})["y"]
    np.testing.assert_allclose(made.detach().numpy(), expected, atol=1e-5)
    made.square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0


def test_trained_weights_can_be_written_back(tmp_path: Path) -> None:
    loaded, _weights = layer_network(tmp_path, 4, PER_TENSOR)
    require_stored(loaded.path, {"w": (6, 3)})


def test_zero_point_that_is_no_integer_makes_float_weights(tmp_path: Path) -> None:
    loaded, weights = layer_network(tmp_path, 4, PER_TENSOR, zero=0.25)
    (layer,) = scan_layers(loaded).layers
    assert layer.levels is None
    expected = quantised(
        weights, np.float32(0.4), np.float32(0.25), 4, signed=1, narrow=1, mode="ROUND"
    )
    np.testing.assert_allclose(layer.values, expected, atol=1e-6)


def test_weights_that_two_quantisers_read_differently_keep_names_of_their_own(
    tmp_path: Path,
) -> None:
    arrays = {
        "w": RNG.normal(size=(6, 3)).astype(np.float32),
        "s": np.float32(0.3),
        "z": np.float32(0),
        "b": np.float32(4),
        "c": np.float32(2),
    }
    nodes = [
        helper.make_node(
            "Quant",
            ["w", "s", "z", bits],
            [out],
            name=out,
            domain=DOMAINS[0],
            signed=1,
            narrow=0,
            rounding_mode="ROUND",
        )
        for bits, out in (("b", "u"), ("c", "v"))
    ]
    nodes += [helper.make_node("MatMul", ["x", name], [f"p{name}"]) for name in "uv"] + [
        helper.make_node("Add", ["pu", "pv"], ["y"])
    ]
    layers = scan_layers(network(tmp_path, nodes, arrays, DOMAINS[0])).layers
    assert [(layer.initializer, layer.bits) for layer in layers] == [
        ("w.levels", 4),
        ("w.levels.1", 2),
    ]


def test_weight_that_two_layers_share_is_one_array(tmp_path: Path) -> None:
    arrays = {
        "w": RNG.normal(size=(6, 6)).astype(np.float32),
        "s": np.float32(0.3),
        "z": np.float32(0),
        "b": np.float32(4),
    }
    nodes = [
        helper.make_node(
            "Quant",
            ["w", "s", "z", "b"],
            [out],
            name=out,
            domain=DOMAINS[0],
            signed=1,
            narrow=0,
            rounding_mode="ROUND",
        )
        for out in "uv"
    ]
    nodes += [
        helper.make_node("MatMul", ["x", "u"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    (layer,) = scan_layers(network(tmp_path, nodes, arrays, DOMAINS[0])).layers
    assert (layer.initializer, len(layer.uses)) == ("w", 2)
