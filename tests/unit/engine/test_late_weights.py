"""A large network whose weights are made when they are read gives the numbers of one that holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cimrobust.data.dataset import DataSet
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.reopen import FirstOpening, reopen_network
from cimrobust.mapping import place as placing
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io import save
from cimrobust.onnx_io import session_template as templates
from cimrobust.onnx_io.save import save_model, to_bytes, with_weights
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.search.witness import witness_model
from cimrobust.twin.stored_tensors import stored_tensors
from cimrobust.twin.to_torch import to_torch

LAYERS = 8


@pytest.fixture(params=[np.float32, np.float16])
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A chain of layers in 32 or 16 bits, with its data."""
    kind = "float" if request.param == np.float32 else "float16"
    names = [f"w{index}" for index in range(LAYERS)]
    body = " ".join(f"p{i} = MatMul(h{i}, {w}) h{i + 1} = Tanh(p{i})" for i, w in enumerate(names))
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net ({kind}[N, 24] h0)'
        f" => ({kind}[N, 24] h{LAYERS}) {{ {body} }}"
    )
    rng = np.random.default_rng(0)
    for name in names:
        values = (rng.standard_normal((24, 24)) / 4).astype(request.param)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((20, 24), np.float32), y=np.arange(20))
    return tmp_path / "m.onnx"


def opened(path: Path) -> tuple[Runtime, Placement, DataSet]:
    inspection = inspect_model(path, device="rram-write-verify-3pct")
    data = load_data(path.with_name("d.npz"), inputs=inspection.network.inputs)
    runtime = open_network(inspection.network, inspection.scan, inspection.placement, data)
    return runtime, inspection.placement, data


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks of more than a thousand bytes be large."""
    monkeypatch.setattr(placing, "MOST_HELD", 100)
    for module in (templates, save):
        monkeypatch.setattr(module, "MOST_SESSION_BYTES", 1000)


def outcome(runtime: Runtime, placement: Placement) -> list[bytes]:
    engine = runtime.engine
    outputs = [runtime.outputs(engine.draw(placement, seed=3, trial=trial)) for trial in range(3)]
    box = box_of(placement)
    arrays = [*outputs, *box.nominal.values(), *box.lo.values(), *box.hi.values()]
    return [runtime.clean_output.tobytes(), *(array.tobytes() for array in arrays)]


def test_numbers_checks_and_chips_are_the_same(
    path: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    held, placed, _ = opened(path)
    request.getfixturevalue("large")
    late, made, data = opened(path)
    assert held.deployed.late_weights is None
    assert set(late.deployed.late_weights or {}) == {f"w{index}" for index in range(LAYERS)}
    assert not any(tensor.raw_data for tensor in late.deployed.model.graph.initializer)
    assert outcome(late, made) == outcome(held, placed)
    assert late.checks == held.checks
    assert late.quantised == held.quantised
    again = reopen_network(late.network, late.scan, made, data, FirstOpening.of(late))
    chip = again.engine.draw(made, seed=3, trial=1)
    assert again.outputs(chip).tobytes() == outcome(held, placed)[2]
    # A witness holds all weights, whatever the network that it was found on holds.
    weights = box_of(made).weights(box_of(made).hi)
    written = [
        save_model(witness_model(runtime, weights), tmp_path / f"{name}.onnx")[0].read_bytes()
        for name, runtime in (("late", late), ("held", held))
    ]
    assert written[0] == written[1]


def test_the_twin_gets_the_weights_that_the_deployed_model_has_not(
    path: Path, request: pytest.FixtureRequest
) -> None:
    held, _, _ = opened(path)
    request.getfixturevalue("large")
    late, _, _ = opened(path)
    names = late.deployed.weight_names
    assert stored_tensors(held.deployed) == {}
    twins = [
        to_torch(runtime.at_hand.model, weight_names=names, values=stored_tensors(runtime.at_hand))
        for runtime in (held, late)
    ]
    for name, weight in twins[0].weights.items():
        np.testing.assert_array_equal(weight.numpy(), twins[1].weights[name].numpy())


def test_a_model_without_values_is_whole_with_given_ones(
    path: Path, request: pytest.FixtureRequest
) -> None:
    held, placed, _ = opened(path)
    request.getfixturevalue("large")
    late, _, _ = opened(path)
    nominal = placed.nominal()
    one, other = (
        to_bytes(with_weights(runtime.deployed, nominal), path) for runtime in (held, late)
    )
    assert one == other
