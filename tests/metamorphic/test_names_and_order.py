"""Names of nodes and tensors and the order of nodes are no part of a network; names of weights key
its random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.montecarlo.trials import run_trials
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search.ensemble import search

INPUTS, HIDDEN, CLASSES, SAMPLES, TRIALS = 8, 10, 4, 48, 6
PROFILE = DeviceProfile("test", "test", device=DeviceTable(tolerance=0.04, sigma=0.02))


def network() -> onnx.ModelProto:
    """Return a network of two branches, whose nodes may stand in several orders."""
    draw = np.random.default_rng(3)
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> g (float[N, {INPUTS}] x) => (float[N, {CLASSES}] y)
        {{ a = MatMul(x, w1) b = MatMul(x, w2) c = Relu(a) d = Tanh(b) e = Add(c, d) f = Neg(x) h = MatMul(f, w3) i = Add(e, h) y = MatMul(i, w4) }}"""  # noqa: E501
    )
    shapes = {
        "w1": (INPUTS, HIDDEN),
        "w2": (INPUTS, HIDDEN),
        "w3": (INPUTS, HIDDEN),
        "w4": (HIDDEN, CLASSES),
    }
    arrays = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in arrays.items()
    )
    return model


@dataclass(frozen=True)
class Numbers:
    """All numbers of a run."""

    layers: tuple[tuple[int, int, int, float], ...]
    clean: float
    quantised: float
    trials: tuple[float, ...]
    worst: float
    members: tuple[float | None, ...]
    certified: int


def numbers(model: onnx.ModelProto, folder: Path) -> Numbers:
    path = folder / "model.onnx"
    onnx.save(model, path)
    loaded = load_network(path)
    scan = scan_layers(loaded)
    placement = place(scan, PROFILE)
    x = np.random.default_rng(5).normal(size=(SAMPLES, INPUTS)).astype(np.float32)
    dataset = DataSet({"x": x}, {}, None, Decision(), DataSource("test", {}, {}, SAMPLES))
    runtime = open_network(loaded, scan, placement, dataset)
    found = search(Subject(runtime, placement), Run(effort="quick"))
    bounded = open_bounds(runtime, placement)
    assert isinstance(bounded, BoundedNetwork)
    return Numbers(
        layers=tuple(
            sorted(
                (t.num_rows, t.num_cols, t.num_devices, t.box_radius)
                for t in placement.tensors.values()
            )
        ),
        clean=runtime.clean.value,
        quantised=runtime.quantised.value,
        trials=tuple(
            run_trials(Subject(runtime, placement), Run(1), num_trials=TRIALS).value.tolist()
        ),
        worst=found.score.value,
        members=tuple(
            None if member.score is None else member.score.value for member in found.members
        ),
        certified=int(certify(bounded).certified.sum()),
    )


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


@pytest.fixture
def first(known: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    if "names" not in known:
        known["names"] = numbers(network(), tmp_path_factory.mktemp("first"))
    found: Numbers = known["names"]
    return found


NEW_NAMES = st.permutations(
    [
        f"{prefix}{index}"
        for index, prefix in enumerate(["w", "zz/", "0", "a.b:", "Relu_", "x__", "y.", "\u00e9"])
    ]
)


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(names=NEW_NAMES)
def test_names_of_nodes_and_of_what_they_make_change_no_number(
    names: list[str], first: Numbers, tmp_path: Path
) -> None:
    model = renamed(network(), dict(zip("abcdefhi", names, strict=True)))
    for index, node in enumerate(model.graph.node):
        node.name = f"{names[0]}!{index * 7 % 10}"
    assert numbers(model, tmp_path) == first


@settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_the_order_of_independent_nodes_changes_no_number(
    data: st.DataObject, first: Numbers, tmp_path: Path
) -> None:
    model = network()
    nodes, initializers = (
        data.draw(st.permutations(list(values)))
        for values in (model.graph.node, model.graph.initializer)
    )
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(initializers)
    assert numbers(model, tmp_path) == first


def test_names_of_weights_key_the_drawn_chips_and_nothing_else(
    first: Numbers, tmp_path: Path
) -> None:
    other = numbers(
        renamed(network(), {"w1": "layer.1", "w2": "layer.2", "w3": "layer.3", "w4": "head"}),
        tmp_path,
    )
    assert (other.layers, other.clean, other.quantised, other.certified) == (
        first.layers,
        first.clean,
        first.quantised,
        first.certified,
    )
    assert abs(other.worst - first.worst) * SAMPLES <= 2 + 1e-9
    assert other.trials != first.trials
