"""Networks on crossbars: with ideal converters they are onnxruntime's, with converters the NumPy
reference's, whatever the layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.data.load_dataset import load_data
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import TileTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.checks import random_vertex
from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.engine.open import Runtime, open_network
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from tests.zoo_networks import ZOO_NETWORKS, zoo_entries


def _profile(mapping: str = "sign_magnitude", **changes: Any) -> DeviceProfile:
    base = load_profile("rram-write-verify-3pct")
    tables = {"dac": DacTable(8), "adc": AdcTable(8), "tile": TileTable(24, 32), **changes}
    return replace(base, weight=replace(base.weight, mapping=mapping), **tables)


def _open(
    path: Path, inputs: Mapping[str, np.ndarray], profile: DeviceProfile
) -> tuple[Runtime, Placement]:
    """Open a network; the second half of the samples is what converters are calibrated with."""
    network = load_network(path)
    scan = scan_layers(network)
    placement = place(scan, profile)
    half = len(next(iter(inputs.values()))) // 2
    decision = Decision(read="value", metric="mae")

    def data(part: slice) -> DataSet:
        return DataSet(
            {name: array[part] for name, array in inputs.items()},
            {},
            None,
            decision,
            DataSource("random", {}, {}, half),
        )

    runtime = open_network(
        network, scan, placement, data(slice(half)), calibration=data(slice(half, None)), workers=2
    )
    return runtime, placement


def _require_same_as_onnxruntime(
    runtime: Runtime, placement: Placement, *, rtol: float = 1e-5
) -> None:
    """Compare ideal converters with onnxruntime at a corner of the tolerance box."""
    vertex = {name: random_vertex(tensor) for name, tensor in placement.tensors.items()}
    ideal = KernelEngine(
        runtime.deployed, placement, output=runtime.plain.output, feeding=runtime.plain.feeding
    )
    data = runtime.dataset
    expected, got = (
        engine.run(vertex, data.inputs, data.constants) for engine in (runtime.plain, ideal)
    )
    assert got.shape == expected.shape
    np.testing.assert_allclose(
        got, expected, rtol=rtol, atol=rtol * max(float(np.abs(expected).max(initial=0)), 1e-6)
    )


@pytest.mark.parametrize("name", ZOO_NETWORKS)
def test_zoo_network_on_crossbars(zoo: Path, name: str) -> None:
    network = load_network(zoo / zoo_entries(zoo)[name]["file"])
    scan = scan_layers(network)
    placement = place(scan, _profile(adc=AdcTable(12), tile=TileTable()))
    data = load_data(str(zoo / f"{name}.toml"), inputs=network.inputs, limit=96)
    part = [
        replace(
            data,
            inputs={key: array[piece] for key, array in data.inputs.items()},
            labels=None if data.labels is None else data.labels[piece],
        )
        for piece in (slice(64), slice(64, None))
    ]
    runtime = open_network(network, scan, placement, part[0], calibration=part[1], workers=2)
    assert runtime.converters is not None
    assert runtime.converters.digital == ()
    assert runtime.converters.reference.products == len(runtime.engine.arrays)  # type: ignore[attr-defined]
    if (
        "q" not in name
    ):  # integer activations turn rounding of sums into whole steps, see the parity that opening checks  # noqa: E501
        _require_same_as_onnxruntime(runtime, placement, rtol=2e-5)
    if name not in ("acasxu_1_1", "rul_cnn"):
        assert abs(runtime.nominal.value - runtime.quantised.value) <= 0.07


_RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def _same_weights_whatever_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "_RNG", np.random.default_rng(0))


def _weight(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape).astype(np.float32)


def _node(
    op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any
) -> onnx.NodeProto:
    return helper.make_node(
        op, inputs, outputs, name=f"{op.lower()}_{outputs[0] or outputs[-1]}", **attributes
    )


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    shape: Sequence[int | str | None],
    constants: Mapping[str, np.ndarray],
    output: str = "y",
    more: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Save a network with the input `x` and more inputs, each of the type of its array and fixed at
    4 samples.
    """
    others = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), [4, *array.shape[1:]]
        )
        for name, array in (more or {}).items()
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape), *others],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


def _conv(
    weight: tuple[int, ...],
    shape: tuple[int, ...],
    *,
    bias: bool = True,
    op: str = "Conv",
    **attributes: Any,
) -> dict[str, Any]:
    outputs = weight[0] if op == "Conv" else weight[1] * attributes.get("group", 1)
    constants = {"w": _weight(*weight), **({"b": _weight(outputs)} if bias else {})}
    return {
        "nodes": [_node(op, ["x", *constants], **attributes)],
        "shape": shape,
        "constants": constants,
    }


def _product(
    op: str,
    inputs: list[str],
    shape: tuple[int, ...],
    constants: dict[str, tuple[int, ...]],
    **attributes: Any,
) -> dict[str, Any]:
    return {
        "nodes": [_node(op, inputs, **attributes)],
        "shape": shape,
        "constants": {name: _weight(*size) for name, size in constants.items()},
    }


def _recurrent(
    op: str,
    outputs: Sequence[str],
    *,
    gates: int,
    directions: int = 1,
    more: Sequence[str] = (),
    **attributes: Any,
) -> dict[str, Any]:
    """Sequences [samples, steps, 5] of 4 hidden units, moved to the layout that onnxruntime has.

    `more` names inputs of the network: `lens` [samples], and the states `h` and `c` [samples,
    directions, 4].
    """
    hidden = 4
    constants = {
        "w": _weight(directions, gates * hidden, 5),
        "r": (
            0.5 * _weight(directions, gates * hidden, hidden)
        ),  # so that no activation without a limit grows from step to step
        "b": _weight(directions, 2 * gates * hidden),
    }
    names = [
        "lens" if "lens" in more else "",
        *(f"{state}_moved" if state in more else "" for state in "hc"),
    ]
    inputs = ["t", "w", "r", "b", *names]
    while not inputs[-1]:
        inputs.pop()
    direction = "bidirectional" if directions == 2 else "forward"
    recurrent = _node(
        op, inputs, outputs, **{"hidden_size": hidden, "direction": direction, **attributes}
    )
    kept = next(name for name in outputs if name)
    back = _node("Transpose", [kept], perm=[2, 1, 0, 3] if kept == outputs[0] else [1, 0, 2])
    moved = [
        _node("Transpose", [state], [f"{state}_moved"], perm=[1, 0, 2])
        for state in "hc"
        if state in more
    ]
    return {
        "nodes": [_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), *moved, recurrent, back],
        "shape": (7, 5),
        "constants": constants,
    }


GRAPHS: dict[str, dict[str, Any]] = {
    "conv1d": _conv((6, 3, 4), (3, 17), strides=[2], pads=[2, 1], dilations=[2]),
    "conv2d": _conv((5, 3, 3, 2), (3, 9, 8), strides=[2, 1], pads=[1, 0, 0, 2], dilations=[1, 2]),
    "conv2d without bias": _conv((5, 3, 1, 1), (3, 6, 5), bias=False),
    "conv3d": _conv((4, 2, 2, 3, 2), (2, 4, 5, 6), strides=[1, 2, 1], pads=[1, 1, 0, 0, 1, 1]),
    "conv groups": _conv((6, 2, 3, 3), (4, 7, 7), group=2, pads=[1, 1, 1, 1]),
    "conv depthwise": _conv((8, 1, 3, 3), (4, 7, 7), group=4),
    "conv same upper": _conv((4, 3, 4, 4), (3, 7, 8), auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": _conv((4, 3, 4, 3), (3, 7, 8), auto_pad="SAME_LOWER", strides=[2, 3]),
    "conv valid": _conv((4, 3, 3, 3), (3, 7, 8), auto_pad="VALID", strides=[2, 2]),
    "conv more rows than a tile": _conv((4, 9, 3, 3), (9, 5, 5)),
    "conv transpose 1d": _conv(
        (3, 4, 3), (3, 6), op="ConvTranspose", strides=[2], pads=[1, 0], output_padding=[1]
    ),
    "conv transpose 2d": _conv(
        (3, 4, 3, 2),
        (3, 5, 4),
        op="ConvTranspose",
        strides=[2, 3],
        dilations=[2, 1],
        pads=[1, 0, 2, 1],
    ),
    "conv transpose groups": _conv(
        (4, 3, 2, 2), (4, 5, 4), op="ConvTranspose", strides=[2, 2], group=2
    ),
    "conv transpose output shape": _conv(
        (3, 2, 3, 3),
        (3, 4, 4),
        op="ConvTranspose",
        strides=[2, 2],
        output_shape=[9, 8],
        auto_pad="SAME_UPPER",
    ),
    "gemm": _product("Gemm", ["x", "w", "b"], (30,), {"w": (30, 7), "b": (7,)}),
    "gemm transposed and scaled": _product(
        "Gemm", ["x", "w", "b"], (30,), {"w": (7, 30), "b": (1, 7)}, transB=1, alpha=0.5, beta=-2.0
    ),
    "gemm scalar bias": _product("Gemm", ["x", "w", "b"], (30,), {"w": (30, 7), "b": (1,)}),
    "gemm without bias": _product("Gemm", ["x", "w"], (30,), {"w": (30, 7)}),
    "matmul": _product("MatMul", ["x", "w"], (30,), {"w": (30, 7)}),
    "matmul leading axes": _product("MatMul", ["x", "w"], (2, 3, 30), {"w": (30, 7)}),
    "matmul stack": _product("MatMul", ["x", "w"], (3, 4, 30), {"w": (3, 30, 7)}),
    "matmul stack for each": _product("MatMul", ["x", "w"], (1, 4, 30), {"w": (3, 30, 7)}),
    "matmul weight on the left": _product("MatMul", ["w", "x"], (30, 4), {"w": (7, 30)}),
    "matmul stack on the left": _product("MatMul", ["w", "x"], (3, 30, 4), {"w": (3, 7, 30)}),
    "matmul vector weight": _product("MatMul", ["x", "w"], (4, 30), {"w": (30,)}),
    "fused matmul": _product(
        "FusedMatMul",
        ["x", "w"],
        (3, 30),
        {"w": (7, 30)},
        domain="com.microsoft",
        transB=1,
        alpha=0.25,
    ),
    "einsum": _product("Einsum", ["x", "w"], (4, 5, 6), {"w": (5, 6, 3)}, equation="bnhd,hdk->bnk"),
    "lstm": _recurrent("LSTM", ["a"], gates=4),
    "lstm both ways": _recurrent("LSTM", ["a"], gates=4, directions=2),
    "lstm last cell state": _recurrent("LSTM", ["", "", "a"], gates=4),
    "lstm reverse, clip, peepholes": _recurrent(
        "LSTM", ["a"], gates=4, direction="reverse", clip=0.5, more={"p": _weight(1, 12)}
    ),
    "lstm other activations": _recurrent(
        "LSTM",
        ["a"],
        gates=4,
        activations=["HardSigmoid", "Softsign", "Tanh"],
        activation_alpha=[0.3],
        activation_beta=[0.4],
    ),
    "gru": _recurrent("GRU", ["a"], gates=3),
    "gru linear before reset": _recurrent(
        "GRU", ["", "a"], gates=3, directions=2, linear_before_reset=1
    ),
    "rnn": _recurrent("RNN", ["a"], gates=1, activations=["Relu"]),
}


@pytest.mark.parametrize("mapping", ["sign_magnitude", "differential", "offset"])
@pytest.mark.parametrize("name", GRAPHS)
def test_layer_on_crossbars(tmp_path: Path, name: str, mapping: str) -> None:
    graph = GRAPHS[name]
    path = _save(tmp_path / "m.onnx", graph["nodes"], ["n", *graph["shape"]], graph["constants"])
    runtime, placement = _open(
        path,
        {"x": np.random.default_rng(1).normal(size=(10, *graph["shape"])).astype(np.float32)},
        _profile(mapping),
    )
    assert runtime.converters is not None
    assert runtime.converters.digital == ()
    assert runtime.converters.reference.values > 0
    _require_same_as_onnxruntime(runtime, placement)


def test_two_nodes_share_a_weight_and_an_inner_output_is_an_output(tmp_path: Path) -> None:
    nodes = [
        _node("MatMul", ["x", "w"], ["h"]),
        _node("Relu", ["h"], ["r"]),
        _node("MatMul", ["r", "w"], ["y"]),
    ]
    path = _save(tmp_path / "m.onnx", nodes, ["n", 9], {"w": _weight(9, 9)}, output="h")
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    onnx.save(model, path)
    runtime, placement = _open(path, {"x": _weight(8, 9)}, _profile())
    assert len(runtime.engine.arrays) == 1  # type: ignore[attr-defined]  # what the decision does not need is not computed
    _require_same_as_onnxruntime(runtime, placement)


def test_batch_of_the_file_stays(tmp_path: Path) -> None:
    nodes = [_node("Reshape", ["x", "shape"], ["f"]), _node("MatMul", ["f", "w"])]
    path = _save(
        tmp_path / "m.onnx", nodes, [4, 3, 3], {"w": _weight(9, 5), "shape": np.array([4, 9])}
    )
    runtime, placement = _open(path, {"x": _weight(22, 3, 3)}, _profile())
    _require_same_as_onnxruntime(runtime, placement)


@pytest.mark.parametrize(
    "bits",
    [
        {"dac": DacTable(6, bits_per_pass=2)},
        {"adc": AdcTable(7, subtract="digital", range="full_scale")},
        {"dac": None},
        {"adc": None},
    ],
)
@pytest.mark.parametrize("per", ["layer", "tile"])
def test_converters_of_every_kind_match_the_reference(
    tmp_path: Path, bits: dict[str, Any], per: str
) -> None:
    adc = bits.get("adc", AdcTable(8))
    changes = {
        **bits,
        **({} if adc is None or adc.range != "calibrated" else {"adc": replace(adc, per=per)}),
    }
    graph = GRAPHS["conv more rows than a tile"]
    path = _save(tmp_path / "m.onnx", graph["nodes"], ["n", *graph["shape"]], graph["constants"])
    runtime, _ = _open(path, {"x": np.abs(_weight(8, *graph["shape"]))}, _profile(**changes))
    assert runtime.converters is not None
    assert runtime.converters.reference.values > 0
    spread = float(np.abs(runtime.clean_output).max())
    assert 0 < runtime.nominal.value < 0.2 * spread


@pytest.mark.parametrize(
    ("op", "gates", "outputs"),
    [
        ("LSTM", 4, ["a", "", ""]),
        ("LSTM", 4, ["", "", "a"]),
        ("GRU", 3, ["a"]),
        ("RNN", 1, ["", "a"]),
    ],
)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("started", [False, True])
def test_sequences_of_different_length(
    tmp_path: Path, op: str, gates: int, outputs: list[str], directions: int, started: bool
) -> None:
    states = (
        {name: _weight(16, directions, 4) for name in ("hc" if op == "LSTM" else "h")}
        if started
        else {}
    )
    more = {"lens": np.tile(np.array([7, 0, 3, 1], np.int32), 4), **states}
    graph = _recurrent(op, outputs, gates=gates, directions=directions, more=list(more))
    path = _save(tmp_path / "m.onnx", graph["nodes"], [4, 7, 5], graph["constants"], more=more)
    runtime, placement = _open(path, {"x": _weight(16, 7, 5), **more}, _profile())
    _require_same_as_onnxruntime(runtime, placement)


@pytest.mark.parametrize(
    "activation",
    [
        "Affine",
        "LeakyRelu",
        "ThresholdedRelu",
        "ScaledTanh",
        "HardSigmoid",
        "Elu",
        "Softsign",
        "Softplus",
        "Sigmoid",
        "Tanh",
        "Relu",
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_activations_with_and_without_their_numbers(
    tmp_path: Path, activation: str, given: bool
) -> None:
    numbers = {"activation_alpha": [0.7], "activation_beta": [0.2]} if given else {}
    graph = _recurrent("RNN", ["", "a"], gates=1, activations=[activation], **numbers)
    path = _save(tmp_path / "m.onnx", graph["nodes"], ["n", 7, 5], graph["constants"])
    runtime, placement = _open(path, {"x": 0.3 * _weight(8, 7, 5)}, _profile())
    _require_same_as_onnxruntime(runtime, placement)


def test_states_before_the_first_step(tmp_path: Path) -> None:
    states = {"h": _weight(16, 1, 4), "c": _weight(16, 1, 4)}
    graph = _recurrent("LSTM", ["a"], gates=4, input_forget=1, more=list(states))
    path = _save(tmp_path / "m.onnx", graph["nodes"], [4, 7, 5], graph["constants"], more=states)
    runtime, placement = _open(path, {"x": _weight(16, 7, 5), **states}, _profile())
    _require_same_as_onnxruntime(runtime, placement)


@pytest.mark.parametrize(
    ("mapping", "subtract", "digital"),
    [
        ("sign_magnitude", "analog", ()),
        ("differential", "analog", ()),
        ("offset", "analog", ()),
        ("offset", "digital", ("first",)),
    ],
)
def test_scales_that_differ_along_a_column(
    tmp_path: Path, mapping: str, subtract: str, digital: tuple[str, ...]
) -> None:
    """What a reference column adds up is subtracted with one scale: such a layer stays digital, and
    says so.
    """
    levels, scales = (
        _RNG.integers(-8, 8, (8, 16)).astype(np.int8),
        _RNG.uniform(0.05, 0.1, 8).astype(np.float32),
    )
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["a", "s"], ["w"], axis=0),
            helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
        ],
        "scales",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [
            numpy_helper.from_array(array, name)
            for name, array in (("a", levels), ("s", scales), ("v", _weight(16, 4)))
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "model.onnx",
    )
    x = _RNG.normal(size=(16, 8)).astype(np.float32)
    runtime, placement = _open(
        tmp_path / "model.onnx", {"x": x}, _profile(mapping, adc=AdcTable(12, subtract=subtract))
    )
    assert runtime.converters is not None
    assert tuple(node for node, _reason in runtime.converters.digital) == digital
    _require_same_as_onnxruntime(runtime, placement)
