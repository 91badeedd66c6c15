"""Every stored weight is shown to move the output, in as many runs as a shallow network takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest

from cimrobust.available_memory import memory_limit
from cimrobust.data.dataset import DataSet
from cimrobust.engine import liveness
from cimrobust.engine.checks import TensorLiveness
from cimrobust.engine.liveness import check_liveness
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

GENERATOR = np.random.default_rng(5)
X = GENERATOR.normal(size=(20, 6)).astype(np.float32)
HEAD = '<ir_version: 8, opset_import: ["" : 13]> agraph (float[N, 6] x) => (float[N, 6] y) '


def deep(num_layers: int, *, end: str = "") -> tuple[str, dict[str, np.ndarray]]:
    """Return a chain of products with tanh in between, and its weights."""
    names = [f"w{index}" for index in range(num_layers)]
    weights = {name: GENERATOR.normal(size=(6, 6)).astype(np.float32) / 2 for name in names}
    body, before = [], "x"
    for index, name in enumerate(names):
        body += [f"p{index} = MatMul({before}, {name})", f"h{index} = Tanh(p{index})"]
        before = f"h{index}"
    declared = ", ".join(f"float[6, 6] {name}" for name in names)
    return (
        f"{HEAD} <{declared}, float zero = {{0}}> {{ {' '.join(body)} "
        + (end or f"y = Identity({before})")
        + " }",
        weights,
    )


def rounded(num_layers: int, *, end: str = "") -> tuple[str, dict[str, np.ndarray]]:
    """Return a chain of rotations that rounds what every layer gives to steps of 1/64.

    Rotations let no change fade or grow on its way.
    """
    text, _ = deep(num_layers, end=end)
    for index in range(num_layers):
        text = text.replace(
            f"h{index} = Tanh(p{index})",
            f"q{index} = QuantizeLinear(p{index}, step, middle)"
            f" h{index} = DequantizeLinear(q{index}, step, middle)",
        )
    text = text.replace(
        ", float zero", ", float step = {0.015625}, uint8 middle = {128}, float zero"
    )
    generator = np.random.default_rng(3)
    rotations = [np.linalg.qr(generator.normal(size=(6, 6)))[0] for _ in range(num_layers)]
    return text, {f"w{index}": w.astype(np.float32) for index, w in enumerate(rotations)}


Opened = tuple[Runtime, Placement]


@pytest.fixture
def open_deep(
    load: Callable[..., Network],
    place_box: Callable[..., Placement],
    dataset: Callable[..., DataSet],
) -> Callable[..., Opened]:
    def opener(text: str, weights: Mapping[str, np.ndarray]) -> Opened:
        network = load(text, weights)
        scan = scan_layers(network)
        placement = place_box(scan, 0.02)
        return open_network(network, scan, placement, dataset({"x": X})), placement

    return opener


def check(opened: Opened, *, alone: bool = False) -> tuple[TensorLiveness, ...]:
    runtime, placement = opened
    specialised = None if alone else runtime.at_hand
    return check_liveness(runtime.plain, placement, {"x": X}, {}, specialised=specialised)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that every session opened adds to."""
    sessions: list[int] = []
    real = OrtEngine.open
    monkeypatch.setattr(
        OrtEngine, "open", lambda self, weights: sessions.append(1) or real(self, weights)
    )
    return sessions


@pytest.mark.parametrize("num_layers", [8, 24])
def test_number_of_sessions_does_not_grow_with_depth(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, num_layers: int
) -> None:
    opened = open_deep(*deep(num_layers))
    sessions = counted(monkeypatch)
    found = check(opened)
    assert len(found) == num_layers
    assert {tensor.move for tensor in found} == {"vertex"}
    assert len(sessions) == 2


def test_verdict_is_that_of_tensors_moved_alone(open_deep: Callable[..., Opened]) -> None:
    text, weights = deep(9, end="d = Mul(p8, zero) y = Add(h7, d)")
    opened = open_deep(text, weights)
    together, alone = check(opened), check(opened, alone=True)
    assert [(tensor.initializer, tensor.move) for tensor in together] == [
        (tensor.initializer, tensor.move) for tensor in alone
    ]
    assert [tensor.initializer for tensor in together if tensor.move == "none"] == ["w8"]
    assert opened[0].checks.dead == ("w8",)


@pytest.mark.parametrize("ignored", ["w0", "w5", "w8"])
def test_engine_that_ignores_a_weight_of_a_deep_network_is_found_out(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    text, weights = deep(9)
    opened = open_deep(text, weights)
    real = OrtEngine.open
    monkeypatch.setattr(
        OrtEngine, "open", lambda self, given: real(self, {**given, ignored: weights[ignored]})
    )
    with pytest.raises(SelfCheckError, match=f"follow a change of '{ignored}'"):
        check(opened)


def test_tensors_are_moved_side_by_side_as_far_as_memory_allows(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, placement = open_deep(*deep(9))
    real, threads = liveness.map_ordered, []
    monkeypatch.setattr(
        liveness,
        "map_ordered",
        lambda *given, workers: threads.append(workers) or real(*given, workers=workers),
    )
    free = check_liveness(runtime.plain, placement, {"x": X}, {}, workers=2)
    with memory_limit(1000):
        short = check_liveness(runtime.plain, placement, {"x": X}, {}, workers=2)
    assert (threads, free) == ([2, 1], short)


def test_large_networks_whose_gradients_show_little_are_traced(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where activations of 16 bits let twin and engine differ."""
    runtime, placement = open_deep(*deep(40))
    engine = copy(runtime.plain)
    engine.deployed = replace(engine.deployed, late_weights={})
    monkeypatch.setattr(liveness, "_shown_by_gradients", lambda *_: {"w3": 1.0})
    found = check_liveness(engine, placement, {"x": X}, {}, specialised=runtime.at_hand)
    moves = Counter(tensor.move for tensor in found)
    assert moves == {"traced": 23, "vertex": 17}
    assert next(tensor for tensor in found if tensor.initializer == "w3").max_change == 1.0
    small = check_liveness(runtime.plain, placement, {"x": X}, {}, specialised=runtime.at_hand)
    assert {tensor.move for tensor in small} == {"vertex"}


def test_lengths_of_outputs_of_16_bits_do_not_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = np.full((1, 4), 300, np.float16)
    monkeypatch.setattr(liveness, "_corner", lambda *_: (seen, np.ones((1, 4))))
    monkeypatch.setattr(liveness, "run_saved", lambda *_: seen)
    monkeypatch.setattr(liveness, "_effects", lambda *_: (seen, {"w": 5.0, "v": 1e-5}))
    nobody = (object.__new__(kind) for kind in (OrtEngine, Deployed, Placement))
    assert liveness._traced(*nobody, {}, {}, {}) == {"w": 5.0}  # type: ignore[misc]


def test_twin_that_is_another_network_shows_nothing(open_deep: Callable[..., Opened]) -> None:
    """What it says of gradients is not believed where it does not land where the engine does."""
    runtime, placement = open_deep(*deep(9))
    moved = open_deep(*deep(9, end="t = Add(h8, h7) y = Identity(t)"))[0].at_hand
    shown = check_liveness(runtime.plain, placement, {"x": X}, {}, specialised=moved)
    assert shown == check((runtime, placement), alone=True)


@pytest.mark.parametrize("num_layers", [40, 64])
def test_number_of_sessions_does_not_grow_with_the_depth_of_a_rounded_network(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, num_layers: int
) -> None:
    opened = open_deep(*rounded(num_layers))
    sessions = counted(monkeypatch)
    found = [tensor.move for tensor in check(opened)]
    assert found.count("traced") == num_layers - 16
    assert found.count("vertex") == 16
    assert len(sessions) == 2 + 1 + 16  # corner and nominal weights, and again for those alone


def test_tensors_of_a_shallow_rounded_network_are_all_moved(
    open_deep: Callable[..., Opened],
) -> None:
    opened = open_deep(*rounded(12))
    assert check(opened) == check(opened, alone=True)


def test_dead_layer_of_a_deep_rounded_network_is_found(open_deep: Callable[..., Opened]) -> None:
    opened = open_deep(*rounded(40, end="d = Mul(p39, zero) y = Add(h38, d)"))
    assert [tensor.initializer for tensor in check(opened) if tensor.move == "none"] == ["w39"]
    assert opened[0].checks.dead == ("w39",)


@pytest.mark.parametrize("cut", ["w0", "w20", "w39"])
def test_layer_that_reads_a_copy_in_a_deep_rounded_network_is_found(
    open_deep: Callable[..., Opened], cut: str
) -> None:
    """What a fault in rewriting would leave: a tensor that nothing depends on."""
    runtime, placement = open_deep(*rounded(40))
    wrong = replace(runtime.deployed, model=onnx.ModelProto())
    wrong.model.CopyFrom(runtime.deployed.model)
    graph = wrong.model.graph
    copy = graph.initializer.add()
    copy.CopyFrom(next(tensor for tensor in graph.initializer if tensor.name == cut))
    copy.name = "copy"
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "none"))
    for node in graph.node:
        node.input[:] = ["wired" if name == cut else name for name in node.input]
    nothing = onnx.helper.make_node("Mul", [cut, "none"], ["nothing"], name="nothing")
    wired = onnx.helper.make_node("Add", ["nothing", "copy"], ["wired"], name="wired")
    nodes = [nothing, wired, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    shown = check_liveness(OrtEngine(wrong), placement, {"x": X}, {}, specialised=wrong)
    assert [tensor.initializer for tensor in shown if tensor.move == "none"] == [cut]
    assert "traced" in {tensor.move for tensor in shown}


@pytest.mark.parametrize("ignored", ["w0", "w20", "w39"])
def test_engine_that_ignores_a_weight_of_a_deep_rounded_network_is_found_out(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, ignored: str
) -> None:
    text, weights = rounded(40)
    opened = open_deep(text, weights)
    real = OrtEngine.open
    monkeypatch.setattr(
        OrtEngine, "open", lambda self, given: real(self, {**given, ignored: weights[ignored]})
    )
    with pytest.raises(SelfCheckError, match=f"follow a change of '{ignored}'"):
        check(opened)


def test_rounding_that_swallows_what_gradients_promise_has_all_tensors_moved(
    open_deep: Callable[..., Opened],
) -> None:
    """A step of 64 lets no corner of the layer in front of it through."""
    end = (
        "c = QuantizeLinear(p39, coarse, middle) d = DequantizeLinear(c, coarse, middle)"
        " e = Mul(d, least) y = Add(h38, e)"
    )
    text, weights = rounded(40, end=end)
    text = text.replace(
        ", float zero", ", float coarse = {64.0}, float least = {0.001}, float zero"
    )
    opened = open_deep(text, weights)
    assert check(opened) == check(opened, alone=True)
    assert opened[0].checks.liveness[39].move != "vertex"


def test_rounded_twin_that_is_another_network_traces_nothing(
    open_deep: Callable[..., Opened],
) -> None:
    runtime, placement = open_deep(*rounded(40))
    moved = open_deep(*rounded(40, end="t = Add(h39, h38) y = Identity(t)"))[0].at_hand
    shown = check_liveness(runtime.plain, placement, {"x": X}, {}, specialised=moved)
    assert shown == check((runtime, placement), alone=True)


def test_integer_weights_of_float_activations_are_seen_at_one_corner(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, weights = deep(9)
    for name in weights:
        text = text.replace(f"float[6, 6] {name}", f"int8[6, 6] {name}")
        text = text.replace(f", {name})", f", d{name})").replace(
            f"p{name[1:]} = ", f"d{name} = DequantizeLinear({name}, step) p{name[1:]} = "
        )
    text = text.replace(", float zero", ", float step = {0.0078125}, float zero")
    levels = {name: np.clip(np.rint(64 * w), -127, 127) for name, w in weights.items()}
    opened = open_deep(text, {name: level.astype(np.int8) for name, level in levels.items()})
    sessions = counted(monkeypatch)
    assert {tensor.move for tensor in check(opened)} == {"vertex"}
    assert len(sessions) == 2
