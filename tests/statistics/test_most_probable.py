"""The most probable failing chip of networks where it is known: linear ones in closed form or by a
numeric optimum, and its support, on any network.

All samples are multiples of one input, so a chip's accuracy falls below the requirement exactly if
the sum of its weights falls below a limit.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from scipy import optimize, stats

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.effect_tables import FaultsTable, ReadNoiseTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.failing import rare_failures
from cimrobust.montecarlo.rare_failures import first_order
from cimrobust.montecarlo.splitting import Splitting
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.reliability.likely_chip import LikelySearch, ProbableChip
from cimrobust.reliability.most_probable import most_probable
from cimrobust.run import Run

WEIGHT = 0.5
BASE = load_profile("rram-write-verify-3pct")
ONE_CELL = replace(BASE, weight=replace(BASE.weight, bits=4), device=replace(BASE.device, bits=4))
GAUSSIAN = replace(
    BASE, device=replace(BASE.device, distribution="gaussian", tolerance=None, sigma=0.01)
)
UNIFORM = replace(ONE_CELL, device=replace(ONE_CELL.device, distribution="uniform", tolerance=0.03))
TRUNCATED = replace(ONE_CELL, device=replace(ONE_CELL.device, tolerance=0.02, sigma=0.01))


def _open(
    folder: Path,
    profile: DeviceProfile,
    inputs: np.ndarray,
    limit: float,
    *,
    decision: Decision | None = None,
) -> tuple[Runtime, Placement]:
    """A network of equal weights that is right on its fifth most fragile sample of twenty exactly
    if the weighted sum of its weights is above the limit.
    """
    size = inputs.size
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
    x = (scales[:, None] * inputs).astype(np.float32)
    read = decision or Decision(read="threshold", threshold=1.0)
    labels = (
        np.ones(20, dtype=np.int64)
        if decision is None
        else np.full((20, 1), float(inputs.sum() * WEIGHT / limit))
    )
    data = DataSet({"x": x}, {}, labels, read, DataSource("test", {}, {}, 20))
    return open_network(network, scan, placement, data), placement


def _search(
    opened: tuple[Runtime, Placement], *, below: float = 0.8, workers: int = 1, seed: int = 0
) -> LikelySearch:
    return most_probable(
        Subject(*opened), Run(seed=seed, workers=workers, effort="quick"), below=below
    )


def _chip(search: LikelySearch) -> ProbableChip:
    assert search.chip is not None
    return search.chip


def _linear_gaussian(folder: Path, beta: float) -> tuple[Runtime, Placement]:
    """Sixteen weights of four Gaussian devices each, with unequal inputs: the limit lies beta
    standard deviations below the mean of the sum.
    """
    inputs = np.linspace(0.5, 2.0, 16)
    sigma = WEIGHT / 255 * 3 * 0.01 * math.sqrt(1 + 16 + 256 + 4096) * float(np.linalg.norm(inputs))
    return _open(folder, GAUSSIAN, inputs, WEIGHT * float(inputs.sum()) - beta * sigma)


@pytest.mark.parametrize("beta", [1.0, 3.0902, 5.5])
def test_gaussian_devices_in_closed_form(tmp_path: Path, beta: float) -> None:
    """For a linear limit state beta is the margin over the norm of the gradient, and the
    first-order probability is exact.
    """
    chip = _chip(_search(_linear_gaussian(tmp_path, beta)))
    assert chip.norm == pytest.approx(beta, rel=0.01)
    assert chip.norm >= beta * (1 - 1e-4)


def test_first_order_agrees_with_splitting_where_the_limit_is_linear(tmp_path: Path) -> None:
    opened = _linear_gaussian(tmp_path, 3.0902)
    settings = Splitting(particles=40, killed=4, moves=8, budget=10_000)
    found = rare_failures(Subject(*opened), Run(), below=0.8, settings=settings).found
    compared = first_order(_chip(_search(opened)).norm, found)
    assert compared.agrees
    assert compared.probability == pytest.approx(1e-3, rel=0.06)  # 1 % of beta


@pytest.mark.parametrize("name", ["uniform", "truncated"])
def test_bounded_devices_against_a_numeric_optimum(tmp_path: Path, name: str) -> None:
    """Five devices with unequal inputs, the sum at 85 % of what they can do: far into the part
    where their quantile functions bend.
    """
    profile, reach = (UNIFORM, 0.03) if name == "uniform" else (TRUNCATED, 0.02)
    inputs = np.array([0.4, 0.7, 1.0, 1.3, 1.6])
    wanted = 0.85 * reach * float(inputs.sum())
    opened = _open(tmp_path, profile, inputs, WEIGHT * (float(inputs.sum()) - wanted))

    def deviation(u: np.ndarray) -> np.ndarray:
        if name == "uniform":
            return reach * (2 * stats.norm.cdf(u) - 1)
        inside = stats.norm.cdf(2) - stats.norm.cdf(-2)
        return 0.01 * stats.norm.ppf(stats.norm.cdf(-2) + inside * stats.norm.cdf(u))

    constraint = {"type": "ineq", "fun": lambda u: 100 * (float(inputs @ deviation(u)) - wanted)}
    best = min(
        optimize.minimize(
            lambda u: 0.5 * float(u @ u),
            start,
            constraints=[constraint],
            options={"maxiter": 500, "ftol": 1e-12},
        ).fun
        for start in np.random.default_rng(0).uniform(0.5, 2.0, (8, 5))
    )
    assert _chip(_search(opened)).norm == pytest.approx(math.sqrt(2 * best), rel=0.01)


def test_every_chip_stays_in_the_support_and_fails(tmp_path: Path) -> None:
    """Nothing but the event and the tolerance box decides: checked on the weights that are
    reported, not on latents.
    """
    inputs = np.array([0.4, 0.7, 1.0, 1.3, 1.6])
    runtime, placement = _open(
        tmp_path, TRUNCATED, inputs, WEIGHT * (1 - 0.97 * 0.02) * float(inputs.sum())
    )
    chip = _chip(_search((runtime, placement)))
    tensor = placement.tensors["w"]
    assert (
        (tensor.lo <= chip.proof.deviations["w"]) & (chip.proof.deviations["w"] <= tensor.hi)
    ).all()
    assert runtime.score({"w": tensor.nominal + chip.proof.deviations["w"]}).value < 0.8
    assert chip.proof.score.value < 0.8
    assert chip.proof.file_score is not None
    assert chip.proof.file_score.value < 0.8
    np.testing.assert_allclose(
        LatentChips(placement).weights(chip.latents)["w"],
        tensor.nominal + chip.proof.deviations["w"],
        rtol=2e-7,
    )


def test_where_no_chip_fails_none_is_reported(tmp_path: Path) -> None:
    """Devices move by 2 % at most, and failing takes 5 %."""
    inputs = np.ones(5)
    search = _search(_open(tmp_path, TRUNCATED, inputs, 0.95 * 5 * WEIGHT))
    assert search.chip is None
    assert "no failing chip was met" in search.reason
    assert "not shown" in search.reason
    assert all(attempt.norm is None for attempt in search.attempts)


def test_a_network_whose_median_chip_fails_needs_no_search(tmp_path: Path) -> None:
    search = _search(_open(tmp_path, TRUNCATED, np.ones(5), 1.01 * 5 * WEIGHT))
    assert _chip(search).norm == 0.0
    assert search.spent.passes == 0


def test_workers_change_nothing(tmp_path: Path) -> None:
    opened = _linear_gaussian(tmp_path, 3.0)
    first, second = _search(opened), _search(opened, workers=3)
    np.testing.assert_array_equal(_chip(first).latents, _chip(second).latents)
    assert first.spent == second.spent
    assert [attempt.norm for attempt in first.attempts] == [
        attempt.norm for attempt in second.attempts
    ]


@pytest.mark.parametrize("metric", ["rmse", "mae", "mse", "max_error"])
def test_an_error_that_exceeds_its_limit(tmp_path: Path, metric: str) -> None:
    """All errors have one cause, the sum of the weights: it has to fall by a known number of
    standard deviations, or to rise by it.
    """
    decision = Decision(read="value", metric=metric)
    inputs = np.ones(16)
    runtime, placement = _open(tmp_path, GAUSSIAN, inputs, 16 * WEIGHT, decision=decision)
    sigma = WEIGHT / 255 * 3 * 0.01 * math.sqrt(1 + 16 + 256 + 4096) * 4.0
    beta, scales = 4.0, np.array([1.0 + (index - 4) / 1000.0 for index in range(20)])
    moved = [abs(scales * (1.0 + sign * beta * sigma / (16 * WEIGHT)) - 1.0) for sign in (-1, 1)]
    of = {
        "rmse": lambda e: np.sqrt((e**2).mean()),
        "mae": np.mean,
        "mse": lambda e: (e**2).mean(),
        "max_error": np.max,
    }[metric]
    chip = _chip(_search((runtime, placement), below=float(max(of(errors) for errors in moved))))
    assert chip.norm == pytest.approx(beta, rel=0.01)


@pytest.mark.parametrize(
    ("profile", "named"),
    [
        (replace(BASE, faults=FaultsTable(0.01, 0.0)), "stuck devices"),
        (replace(BASE, read_noise=ReadNoiseTable(0.01)), "read noise"),
    ],
)
def test_profiles_that_latents_cannot_express_are_refused(
    tmp_path: Path, profile: DeviceProfile, named: str
) -> None:
    runtime, _ = _open(tmp_path, BASE, np.ones(5), 4.9 * WEIGHT)
    with pytest.raises(UsageError, match=named):
        most_probable(
            Subject(runtime, place(scan_layers(runtime.network), profile)),
            Run(effort="quick"),
            below=0.8,
        )
