"""The search on real networks: what it must reach on the shipped sample, and plain numbers on a few
of the zoo.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cimrobust.data.load_dataset import load_data
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search import search_budget as budget
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import SearchResult

SMALL = replace(
    budget.budget_of("quick"),
    smooth=(16,),
    hinge=(2,),
    entropy=(2,),
    ratio=(2,),
    targets=1,
    collapse=(2,),
    continuation=(2,),
    evaluations=8,
)


def _open(
    model: Path, description: Path, tolerance: float, limit: int | None
) -> tuple[Runtime, Placement]:
    network = load_network(model)
    scan = scan_layers(network)
    placement = place(scan, with_tolerance(load_profile("rram-write-verify-3pct"), tolerance))
    return (
        open_network(
            network, scan, placement, load_data(description, inputs=network.inputs, limit=limit)
        ),
        placement,
    )


def _members(result: SearchResult) -> dict[str, float]:
    return {
        member.name: member.score.value for member in result.members if member.score is not None
    }


def test_digits_cnn_breaks_at_three_percent_and_random_corners_do_not(samples: Path) -> None:
    runtime, placement = _open(samples / "digits_cnn.onnx", samples / "digits_cnn.toml", 0.03, None)
    result = search(Subject(runtime, placement), Run(seed=0, workers=2, effort="quick"))
    assert result.score.value <= 0.12
    assert _members(result)["random_corners"] > 0.9
    assert result.passes <= 100


def test_workers_change_no_bit_of_a_convolutional_network(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(budget._LEVELS, "quick", SMALL)
    runtime, placement = _open(
        samples / "digits_resnet.onnx", samples / "digits_resnet.toml", 0.005, None
    )
    first, second = (
        search(Subject(runtime, placement), Run(seed=1, workers=workers, effort="quick"))
        for workers in (1, 4)
    )
    assert first.score == second.score
    for name, deviation in first.deviations.items():
        np.testing.assert_array_equal(deviation, second.deviations[name])


@pytest.mark.parametrize(
    ("name", "tolerance", "most"),
    [
        ("mnist_mlp_256x2", 0.01, 0.75),
        ("mnist_cnn_bn", 0.015, 0.6),
        ("cifar_resnet8_qlinear", 0.01, 0.3),
        ("acasxu_1_1", 0.01, 0.3),
    ],
)
def test_zoo_networks_break(
    zoo: Path, name: str, tolerance: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few samples and passes, so that the test is quick; the full budget finds more."""
    monkeypatch.setitem(budget._LEVELS, "quick", SMALL)
    runtime, placement = _open(zoo / f"models/{name}.onnx", zoo / f"{name}.toml", tolerance, 100)
    result = search(Subject(runtime, placement), Run(seed=0, workers=2, effort="quick"))
    assert result.has_twin
    assert result.score.value <= most
    assert result.score.value < _members(result)["random_corners"]


def test_error_of_a_real_regression_grows(zoo: Path) -> None:
    runtime, placement = _open(zoo / "models/rul_cnn.onnx", zoo / "rul_cnn.toml", 0.01, 200)
    result = search(Subject(runtime, placement), Run(seed=0, workers=2, effort="quick"))
    assert result.score.value > 5 * runtime.quantised.value
