"""Every stored weight is shown to move the output, in as many runs as a shallow network takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from cimrobust.data.dataset import DataSet
from cimrobust.engine.checks import TensorLiveness
from cimrobust.engine.liveness import check_liveness
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.placement import Placement
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


@pytest.mark.parametrize("num_layers", [8, 24])
def test_number_of_sessions_does_not_grow_with_depth(
    open_deep: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch, num_layers: int
) -> None:
    opened = open_deep(*deep(num_layers))
    sessions = []
    real = OrtEngine.open
    monkeypatch.setattr(
        OrtEngine, "open", lambda self, weights: sessions.append(1) or real(self, weights)
    )
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


def test_twin_that_is_another_network_shows_nothing(open_deep: Callable[..., Opened]) -> None:
    """What it says of gradients is not believed where it does not land where the engine does."""
    runtime, placement = open_deep(*deep(9))
    moved = open_deep(*deep(9, end="t = Add(h8, h7) y = Identity(t)"))[0].at_hand
    liveness = check_liveness(runtime.plain, placement, {"x": X}, {}, specialised=moved)
    assert liveness == check((runtime, placement), alone=True)
