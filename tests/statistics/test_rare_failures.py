"""Failing chips of linear networks, whose probability is known in closed form down to 1e-6: from
the profile and the model file to the estimate.

All samples are multiples of one input, so a chip's accuracy falls below the requirement exactly if
the sum of its weights falls below a limit.
False alarm: estimates may differ by five standard deviations of ideal repeats, times 1.25 for
chains that are not ideal; seeds are fixed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from scipy import stats

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.failing import RareFailures, rare_failures
from cimrobust.montecarlo.splitting import Splitting
from cimrobust.montecarlo.trials import run_trials
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run

WEIGHT = 0.5
BASE = load_profile("rram-write-verify-3pct")
GAUSSIAN = replace(
    BASE, device=replace(BASE.device, distribution="gaussian", tolerance=None, sigma=0.01)
)
UNIFORM = replace(
    BASE,
    weight=replace(BASE.weight, bits=4),
    device=replace(BASE.device, bits=4, distribution="uniform", tolerance=0.03),
)
SETTINGS = Splitting(particles=60, killed=6, moves=10, budget=20_000)


def _open(
    folder: Path, profile: DeviceProfile, size: int, limit: float
) -> tuple[Runtime, Placement]:
    """A network that is right on its fifth most fragile sample of twenty exactly if the sum of its
    weights is above the limit.
    """
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 13]> g (float["n", {size}] x) => (float["n", 1] y)'
        f" <float[{size}, 1] w> {{ y = MatMul(x, w) }}"
    )
    del model.graph.initializer[:]
    model.graph.initializer.append(
        numpy_helper.from_array(np.full((size, 1), WEIGHT, np.float32), "w")
    )
    onnx.save(model, folder / "model.onnx")
    network = load_network(folder / "model.onnx")
    scan = scan_layers(network)
    placement = place(scan, profile)
    scales = np.array([1.0 / limit * (1.0 + (index - 4) / 1000.0) for index in range(20)])
    x = np.repeat(scales[:, None], size, axis=1).astype(np.float32)
    data = DataSet(
        {"x": x},
        {},
        np.ones(20, dtype=np.int64),
        Decision(read="threshold", threshold=1.0),
        DataSource("test", {}, {}, 20),
    )
    return open_network(network, scan, placement, data), placement


def _gaussian(folder: Path, distance: float) -> tuple[Runtime, Placement, float]:
    """Sixteen weights of four devices each: their sum is Gaussian, and the limit lies so many
    standard deviations below its mean.
    """
    sigma = WEIGHT / 255 * 3 * 0.01 * math.sqrt(1 + 16 + 256 + 4096)
    runtime, placement = _open(folder, GAUSSIAN, 16, 16 * WEIGHT - distance * sigma * math.sqrt(16))
    return runtime, placement, float(stats.norm.sf(distance))


def _uniform(folder: Path, probability: float) -> tuple[Runtime, Placement, float]:
    """Five devices: P(sum of five uniform numbers < e) = e^5 / 5! for e <= 1, a tail that is not
    Gaussian at all.
    """
    edge = (math.factorial(5) * probability) ** 0.2
    runtime, placement = _open(folder, UNIFORM, 5, WEIGHT * (5 + 0.03 * (2 * edge - 5)))
    return runtime, placement, probability


def _estimate(
    runtime: Runtime, placement: Placement, *, below: float = 0.8, seed: int = 0, workers: int = 1
) -> RareFailures:
    return rare_failures(
        Subject(runtime, placement), Run(seed, workers), below=below, settings=SETTINGS
    )


def _allowed(probability: float) -> float:
    return 5 * 1.25 * math.sqrt(-math.log(probability) / (2 * SETTINGS.particles))


@pytest.mark.parametrize("distance", [3.0902, pytest.param(4.7534, marks=pytest.mark.slow)])
def test_a_linear_network_of_gaussian_devices(tmp_path: Path, distance: float) -> None:
    runtime, placement, exact = _gaussian(tmp_path, distance)
    rare = _estimate(runtime, placement)
    assert (rare.num_wrong, rare.num_devices) == (5, 64)
    assert rare.found.estimate is not None
    assert abs(math.log(rare.found.estimate / exact)) < _allowed(exact)
    assert rare.found.reliability_index == pytest.approx(distance, abs=0.3)
    # No failing chip is nearer than the most probable one, and the population comes near it only in
    # the direction that matters.
    assert all(run.nearest is not None and run.nearest > distance - 1e-3 for run in rare.runs)


@pytest.mark.parametrize("probability", [1e-3, pytest.param(1e-6, marks=pytest.mark.slow)])
def test_a_linear_network_of_uniform_devices(tmp_path: Path, probability: float) -> None:
    runtime, placement, exact = _uniform(tmp_path, probability)
    rare = _estimate(runtime, placement, seed=1)
    assert rare.found.estimate is not None
    assert abs(math.log(rare.found.estimate / exact)) < _allowed(exact)


def test_drawn_chips_and_splitting_agree_where_both_can_see(tmp_path: Path) -> None:
    runtime, placement, exact = _gaussian(tmp_path, 1.6449)
    drawn = run_trials(Subject(runtime, placement), Run(3), num_trials=2000)
    failures = int((drawn.value < 0.8).sum())
    assert stats.binomtest(failures, 2000, exact).pvalue > 1e-6
    rare = _estimate(runtime, placement)
    assert rare.found.estimate is not None
    assert abs(math.log(rare.found.estimate / exact)) < _allowed(exact)


def test_workers_change_nothing(tmp_path: Path) -> None:
    runtime, placement, _ = _gaussian(tmp_path, 2.0)
    assert _estimate(runtime, placement).runs == _estimate(runtime, placement, workers=3).runs


def test_bounded_devices_that_cannot_fail_are_said_to_be_out_of_reach(tmp_path: Path) -> None:
    """Within three percent a device cannot move the sum by ten: no chip fails, and the estimate
    does not pretend otherwise.
    """
    runtime, placement = _open(tmp_path, BASE, 5, 0.9 * 5 * WEIGHT)
    settings = Splitting(particles=20, killed=2, moves=5, budget=1500)
    rare = rare_failures(Subject(runtime, placement), Run(), below=0.8, settings=settings)
    assert rare.found.estimate is None
    assert "budget" in rare.found.reason
    assert 0.0 == rare.found.low < rare.found.high < 1e-4


def test_repeats_must_be_positive(tmp_path: Path) -> None:
    runtime, placement, _ = _gaussian(tmp_path, 2.0)
    with pytest.raises(UsageError, match="repeats"):
        rare_failures(Subject(runtime, placement), Run(), below=0.8, settings=SETTINGS, repeats=0)
