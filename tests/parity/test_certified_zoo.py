"""Real networks have a bound that is good for something, and onnxruntime never breaks what is
certified.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cimrobust.certify.bound_summary import certify_run
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.placement import Placement
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.run import Run
from tests.unit.certify.attack import PerInputAttack, corner


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_torch_thread():
        yield


def opened(model: Path, description: Path, limit: int) -> tuple[Runtime, Placement]:
    inspection = inspect_model(model, device="rram-write-verify-3pct", tolerance=None)
    dataset = load_data(str(description), inputs=inspection.network.inputs, limit=limit)
    return (
        open_network(inspection.network, inspection.scan, inspection.placement, dataset),
        inspection.placement,
    )


# Boxes a little smaller than those at which half of the inputs are certified, see
# docs/explanation/certified.md; relative to a tolerance of 3 %.
@pytest.mark.parametrize(
    ("folder", "name", "scale", "least"),
    [
        ("samples", "breast_cancer_mlp", 3.0, 10),
        ("samples", "digits_cnn", 0.15, 8),
        ("zoo", "mnist_mlp_256x2", 0.2, 10),
        ("zoo", "acasxu_1_1", 0.0007, 5),
        ("zoo", "mnist_cntk_opset8", 0.1, 8),
    ],
)
def test_half_of_the_inputs_are_certified_and_none_of_them_breaks(
    request: pytest.FixtureRequest, folder: str, name: str, scale: float, least: int
) -> None:
    home: Path = request.getfixturevalue(folder)
    model = home / f"{name}.onnx" if folder == "samples" else home / "models" / f"{name}.onnx"
    runtime, placement = opened(model, home / f"{name}.toml", 16)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    bounds = certify(network, scale=scale, effort=3e8)
    assert bounds.count >= least
    held = np.flatnonzero(bounds.certified)
    attack = PerInputAttack(runtime, placement, targets=1, passes=3, network=network)
    random = np.random.default_rng(0)
    chips = [attack.worst(int(sample), scale)[1] for sample in held[:4]]
    for _ in range(10):
        signs = {
            key: random.random(tensor.shape) < 0.5 for key, tensor in placement.tensors.items()
        }
        chips.append(
            {
                key: corner(tensor.nominal, scale, np.where(signs[key], tensor.lo, tensor.hi))
                for key, tensor in placement.tensors.items()
            }
        )
    for chip in chips:
        decided = runtime.task.decide(runtime.plain.run(chip, runtime.dataset.inputs))[held]
        assert (decided == runtime.task.labels[held]).all()


@pytest.mark.parametrize("name", ["cifar_resnet4b_qdq", "cifar_resnet8_qlinear", "cifar_vit_ibp"])
def test_every_margin_of_a_hard_network_is_above_its_bound(zoo: Path, name: str) -> None:
    runtime, placement = opened(zoo / "models" / f"{name}.onnx", zoo / f"{name}.toml", 4)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    attack = PerInputAttack(runtime, placement, targets=1, passes=2)
    for scale in (1e-4, 1e-2):
        bounds = certify(network, scale=scale, effort=0.0, branching=None)
        assert np.isfinite(bounds.margin).all()
        for sample in range(2):
            assert attack.worst(sample, scale)[0] >= bounds.margin[sample]


def test_errors_of_a_regression_are_bounded(zoo: Path) -> None:
    runtime, placement = opened(zoo / "models" / "rul_cnn.onnx", zoo / "rul_cnn.toml", 3)
    found = certify_run(Subject(runtime, placement), Run(effort="quick"))
    assert found.score is not None
    errors = [point.score.value for point in found.curve]
    assert errors == sorted(errors)
    assert runtime.quantised.value < errors[0] < 2.0 * runtime.quantised.value
    random = np.random.default_rng(0)
    for _ in range(5):
        chip = {
            key: corner(
                tensor.nominal,
                1.0,
                np.where(random.random(tensor.shape) < 0.5, tensor.lo, tensor.hi),
            )
            for key, tensor in placement.tensors.items()
        }
        assert runtime.score(chip).value <= found.score.value
