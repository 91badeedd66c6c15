"""A network optimised once gives the bits of one that is optimised with every chip."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cimrobust.engine import optimised_template as module
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import Runtime
from cimrobust.engine.optimised_template import optimised_template
from cimrobust.engine.ort import OrtEngine
from cimrobust.engine.sessions import open_session
from cimrobust.onnx_io.session_template import session_template
from tests.unit.certify.conftest import NETWORKS, Maker, make  # noqa: F401
from tests.unit.search.conftest import Opener, opened  # noqa: F401

#: Blocked layouts need channels in numbers that fill vectors; the first layer has one alone.
BLOCKED = (
    '<ir_version: 8, opset_import: ["" : 20]> net (float[N, 1, 9, 9] x) => (float[N, 3] y) {'
    " h = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(h) g = Conv<pads=[1,1,1,1]>(r, w2) s = Relu(g)"
    " p = GlobalAveragePool(s) f = Flatten(p) y = Gemm<transB=1>(f, w3) }"
)
SHAPES = {"w1": (6, 1, 3, 3), "w2": (32, 6, 3, 3), "w3": (3, 32)}


@pytest.fixture
def blocked(opened: Opener) -> Runtime:  # noqa: F811
    random = np.random.default_rng(1)
    weights = {
        name: random.normal(size=shape).astype(np.float32) / 4 for name, shape in SHAPES.items()
    }
    x = random.normal(size=(40, 1, 9, 9)).astype(np.float32)
    return opened(BLOCKED, weights, {"x": x})[0]


def check_same(runtime: Runtime, weights: Mapping[str, np.ndarray]) -> None:
    """Compare a session of the optimised template with one that is optimised now."""
    template, _ = session_template(runtime.deployed)
    made = optimised_template(template, runtime.deployed.weight_shapes)
    assert made is not None
    feed, output = dict(runtime.dataset.inputs), runtime.plain.output
    session, _keep = made.open(weights)
    expected = open_session(template, weights=weights).run([output], feed)[0]
    assert session.run([output], feed)[0].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if name not in ("quantised", "residual")]
)
def test_outputs_are_the_same_bits(make: Maker, name: str) -> None:  # noqa: F811
    runtime, placement = make(name)
    for trial in range(3):
        check_same(runtime, program_chip(placement, seed=5, trial=trial))


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1e-42, 3e38])
def test_no_value_of_a_weight_is_special(blocked: Runtime, value: float) -> None:
    shapes = blocked.deployed.weight_shapes
    random = np.random.default_rng(2)
    for name in shapes:
        weights = {key: random.normal(size=s).astype(np.float32) for key, s in shapes.items()}
        weights[name] = np.full(shapes[name], value, np.float32)
        check_same(blocked, weights)


def test_weights_are_put_into_blocks_filled_up_with_zeros(blocked: Runtime) -> None:
    template, _ = session_template(blocked.deployed)
    made = optimised_template(template, blocked.deployed.weight_shapes)
    assert made is not None
    moved = [order for order in made.orders.values() if order.places is not None]
    assert {order.source for order in moved} >= {"w2"}


def test_weights_that_a_normalisation_is_folded_into_have_no_such_template(
    make: Maker,  # noqa: F811
) -> None:
    deployed = make("residual")[0].deployed
    template, _ = session_template(deployed)
    assert optimised_template(template, deployed.weight_shapes) is None


def test_sessions_are_the_same_before_and_after_a_template_pays(
    blocked: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WORTH_IT", 3)
    random = np.random.default_rng(3)
    chips = [
        {
            name: random.normal(size=shape).astype(np.float32)
            for name, shape in blocked.deployed.weight_shapes.items()
        }
        for _ in range(12)
    ]
    expected = [
        OrtEngine(blocked.deployed).run(chip, blocked.dataset.inputs).tobytes() for chip in chips
    ]
    engine = OrtEngine(blocked.deployed)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda chip: engine.run(chip, blocked.dataset.inputs), chips))
    assert [output.tobytes() for output in found] == expected
    assert engine._late is not None
    assert engine._late.for_next() is not None


def test_without_a_file_sessions_are_opened_as_before(
    blocked: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "_WORTH_IT", 0)
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    engine = OrtEngine(blocked.deployed)
    chip = {n: np.ones(s, np.float32) for n, s in blocked.deployed.weight_shapes.items()}
    assert engine.run(chip, blocked.dataset.inputs).shape == (40, 3)
    assert engine._late is not None
    assert engine._late.for_next() is None


@pytest.mark.parametrize(("most", "shared"), [(2**24, True), (10, False)])
def test_memory_is_kept_for_small_activations_alone(
    blocked: Runtime, monkeypatch: pytest.MonkeyPatch, most: int, shared: bool
) -> None:
    monkeypatch.setattr(module, "_WORTH_IT", 0)
    monkeypatch.setattr(module, "_MOST_KEPT", most)
    late = OrtEngine(blocked.deployed)._late
    assert late is not None
    template = late.for_next()
    assert template is not None
    assert template.shares_memory == shared


def test_large_networks_have_none(blocked: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    template, _ = session_template(blocked.deployed)
    monkeypatch.setattr(module, "MOST_WEIGHTS", 100)
    assert optimised_template(template, blocked.deployed.weight_shapes) is None
