"""Which rule decides for which layer, and what follows for the network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.device.core_tables import DeviceTable, TileTable, WeightTable
from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_changes import with_digital
from cimrobust.errors import UsageError
from cimrobust.mapping.decided import decide, stored_layers
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

_TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4, 6, 6] x) => (float[N, 3] y) {
  a = Conv <group = 4> (x, conv_weight)
  b = Relu(a)
  c = Conv(b, point_weight)
  d = Reshape(c, size)
  e = MatMul(d, fc1)
  y = Gemm(e, fc2)
}
"""
_SHAPES = {
    "conv.weight": (4, 1, 3, 3),
    "point.weight": (8, 4, 1, 1),
    "fc1": (128, 5),
    "fc2": (5, 3),
}


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return _written(tmp_path, _TEXT, _SHAPES, size=np.array([-1, 128]))


def _written(
    tmp_path: Path, text: str, shapes: dict[str, tuple[int, ...]], **constants: np.ndarray
) -> Network:
    random, model = np.random.default_rng(0), parser.parse_model(text)
    weights = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in (weights | constants).items()
    )
    for number, node in enumerate(model.graph.node):
        node.name = f"/{node.op_type.lower()}_{number}"
        node.input[:] = [
            name.replace("_weight", ".weight") for name in node.input
        ]  # no name in ONNX text
    onnx.save(model, tmp_path / "model.onnx")
    return load_network(tmp_path / "model.onnx")


def profile(*rules: LayerRule) -> DeviceProfile:
    return replace(load_profile("rram-write-verify-3pct"), rules=rules)


def decided(network: Network, *rules: LayerRule) -> dict[str, int | None]:
    """Return the rule of every layer that is stored."""
    return {
        layer.initializer: layer.rule
        for layer in decide(scan_layers(network), profile(*rules)).layers
    }


_FINE = DeviceTable(tolerance=0.001, sigma=0.001)


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({"match": "conv.weight"}, {"conv.weight"}),
        ({"match": "*.weight"}, {"conv.weight", "point.weight"}),
        ({"match": "fc?"}, {"fc1", "fc2"}),
        ({"match": "/gemm_*"}, {"fc2"}),
        ({"match": "/conv_[02]"}, {"conv.weight", "point.weight"}),
        ({"operator": "Conv"}, {"conv.weight", "point.weight"}),
        ({"operator": "MatMul"}, {"fc1"}),
        ({"position": (0, 0)}, {"conv.weight"}),
        ({"position": (-1, -1)}, {"fc2"}),
        ({"position": (1, -2)}, {"point.weight", "fc1"}),
        ({"position": (-4, 3)}, set(_SHAPES)),
    ],
)
def test_layers_are_named_by_name_operator_or_position(
    network: Network, selector: dict[str, object], fits: set[str]
) -> None:
    found = decided(network, LayerRule(**selector, device=_FINE))
    assert {name for name, rule in found.items() if rule == 0} == fits


def test_the_last_rule_that_fits_decides_alone(network: Network) -> None:
    rules = (
        LayerRule(match="*", weight=WeightTable(bits=4)),
        LayerRule(operator="Conv", device=_FINE),
        LayerRule(match="point*", tile=TileTable(rows=16)),
    )
    assert decided(network, *rules) == {"conv.weight": 1, "point.weight": 2, "fc1": 0, "fc2": 0}
    placed = place(decide(scan_layers(network), profile(*rules)), profile(*rules)).tensors
    assert placed["point.weight"].profile.weight.bits == 8, (
        "keys of rules that do not decide are not taken over"
    )
    assert placed["conv.weight"].profile.device == _FINE


def test_a_digital_layer_is_listed_with_its_rule_and_stores_nothing(network: Network) -> None:
    stated = with_digital(profile(LayerRule(position=(0, 0), digital=True)), ["fc1"])
    scan = decide(scan_layers(network), stated)
    assert [layer.initializer for layer in scan.layers] == ["point.weight", "fc2"]
    assert [
        (node.node, node.reason, node.rule) for node in scan.unmapped if node.rule is not None
    ] == [
        ("/conv_0", "digital by rule 1 (position [0, 0]): weight 'conv.weight'", 0),
        ("/matmul_4", "digital by rule 2 (match 'fc1', --digital): weight 'fc1'", 1),
    ]


def test_a_later_rule_takes_a_digital_layer_back(network: Network) -> None:
    found = decided(network, LayerRule(match="fc*", digital=True), LayerRule(match="fc2"))
    assert found == {"conv.weight": None, "point.weight": None, "fc2": 1}


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (
            {"match": "conv.wieght"},
            r"rule 1 \(match 'conv.wieght'\), nearest names? (is|are) 'conv.weight'",
        ),
        ({"match": "FC1"}, "nearest name is"),
        ({"match": "zzz*"}, "nearest name is"),
        ({"operator": "LSTM"}, "operators of the layers are Conv, Gemm, MatMul"),
        ({"position": (0, 4)}, "positions are 0 to 3 or -4 to -1"),
        ({"position": (-1, 0)}, "positions are 0 to 3"),
    ],
)
def test_a_rule_that_fits_nothing_is_refused_with_what_may_have_been_meant(
    network: Network, selector: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        decided(network, LayerRule(**selector, device=_FINE))


def test_all_rules_that_fit_nothing_are_named_together(network: Network) -> None:
    with pytest.raises(UsageError, match=r"rule 1 \(match 'a1'.*rule 3 \(match 'a2'"):
        decided(
            network,
            LayerRule(match="a1", digital=True),
            LayerRule(match="fc1"),
            LayerRule(match="a2", digital=True),
        )


def test_one_layer_at_least_is_stored(network: Network) -> None:
    with pytest.raises(
        UsageError,
        match=(
            r"at least one layer must be stored in devices, got all 4 digital by rule 1 \(match"
            r" '\*'"
        ),
    ):
        decided(network, LayerRule(match="*", digital=True))


_PRODUCT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4] x) => (float[N, 4] y) {
  a = MatMul(x, w)
  both = Concat <axis = 1> (v, u)
  b = MatMul(a, both)
  t = Transpose(a)
  c = MatMul(a, t)
  d = MatMul(c, b)
  y = Slice(d, zero, four, one)
}
"""


def test_what_is_digital_anyway_may_be_asked_to_be(tmp_path: Path) -> None:
    limits = {
        name: np.array([value], np.int64) for name, value in (("zero", 0), ("four", 4), ("one", 1))
    }
    network = _written(tmp_path, _PRODUCT, {"w": (4, 4), "v": (4, 4), "u": (4, 4)}, **limits)
    unmapped = next(node for node in scan_layers(network).unmapped if node.op == "MatMul")
    assert set(decided(network, LayerRule(match=unmapped.node, digital=True))) == {"w", "v", "u"}
    with pytest.raises(UsageError, match="which is no crossbar layer: "):
        decided(network, LayerRule(match=unmapped.node, device=_FINE))


@pytest.mark.parametrize(
    "rule", [LayerRule(match="v", digital=True), LayerRule(match="v", weight=WeightTable(bits=4))]
)
def test_weights_of_one_array_are_stored_alike(tmp_path: Path, rule: LayerRule) -> None:
    limits = {
        name: np.array([value], np.int64) for name, value in (("zero", 0), ("four", 4), ("one", 1))
    }
    network = _written(tmp_path, _PRODUCT, {"w": (4, 4), "v": (4, 4), "u": (4, 4)}, **limits)
    with pytest.raises(
        UsageError,
        match=(
            r"one array holds must be stored alike, got profile for 'u' and rule 1 \(match 'v'\)"
            r" for 'v'"
        ),
    ):
        decided(network, rule)
    assert decided(network, replace(rule, match="[uv]"))["w"] is None
    assert decided(network, LayerRule(match="v", device=_FINE)) == {
        "w": None,
        "v": 0,
        "u": None,
    }, "tolerances of one array may differ"


def test_groups_are_dense_where_the_devices_of_the_layer_say_so(network: Network) -> None:
    dense = TileTable(grouped="dense")
    for stated, columns in (
        (profile(), (1, 9)),
        (profile(LayerRule(match="conv*", tile=dense)), (4, 9 * 4)),
        (replace(profile(LayerRule(match="conv*", tile=TileTable())), tile=dense), (1, 9)),
    ):
        changed, scan = stored_layers(network, stated)
        found = next(layer for layer in scan.layers if layer.initializer == "conv.weight")
        assert (found.num_cols, found.num_rows) == columns
        assert (changed is network) == (columns == (1, 9))


def test_a_digital_grouped_layer_keeps_its_groups(network: Network) -> None:
    stated = replace(
        profile(LayerRule(match="conv*", digital=True)), tile=TileTable(grouped="dense")
    )
    changed, _scan = stored_layers(network, stated)
    assert changed is network


def test_the_box_of_every_layer_is_that_of_its_own_devices(network: Network) -> None:
    stated = profile(
        LayerRule(
            match="fc1", device=DeviceTable(tolerance=0.2, sigma=0.1), weight=WeightTable(bits=6)
        ),
        LayerRule(
            match="fc2",
            device=DeviceTable(bits=4, tolerance=0.005, sigma=0.1),
            weight=WeightTable(mapping="differential"),
        ),
    )
    tensors = place(decide(scan_layers(network), stated), stated).tensors
    largest = {name: float(np.abs(network.initializers[name]).max()) for name in _SHAPES}
    radius = {name: tensors[name].box_radius / largest[name] for name in _SHAPES}
    assert radius == pytest.approx(
        {"conv.weight": 0.03, "point.weight": 0.03, "fc1": 0.2, "fc2": 2 * 0.005}, rel=1e-6
    )
    assert [tensors[name].cells_per_weight for name in _SHAPES] == [4, 4, 3, 4]


def test_rules_have_to_be_applied_before_layers_are_placed(network: Network) -> None:
    with pytest.raises(AssertionError, match="rules of a profile must be applied"):
        place(scan_layers(network), profile(LayerRule(match="fc1")))
