from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cimrobust.data.decision import Decision
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.run import Run
from cimrobust.search import search_budget as budget
from cimrobust.search.ensemble import search
from tests.unit.search.conftest import MLP, Opener, mlp_weights
from tests.unit.search.conftest import samples as normal_samples

Small = tuple[Runtime, Placement]


pytestmark = pytest.mark.usefixtures("cheap")


def test_pattern_is_in_the_box_and_gives_the_score(small: Small) -> None:
    runtime, placement = small
    result = search(Subject(runtime, placement), Run(seed=3, effort="quick"))
    box = box_of(placement)
    box.check(result.deviations, origin="test")
    assert runtime.score(box.weights(result.deviations)) == result.engine_score == result.score
    assert result.score.value < 0.75 * runtime.quantised.value
    assert result.passes <= budget.budget_of("quick").num_passes
    assert result.has_twin
    assert result.twin_reason is None


def test_gradients_find_more_than_chance(small: Small) -> None:
    result = search(Subject(*small), Run(seed=3, effort="quick"))
    by_name = {member.name: member.score for member in result.members}
    smooth, random = by_name["smooth_accuracy"], by_name["random_corners"]
    assert smooth is not None
    assert random is not None
    assert smooth.value < random.value - 0.1
    assert result.score.value <= min(score.value for score in by_name.values() if score is not None)
    assert not result.warnings


def test_pairs_of_classes_lead_below_the_plateau(samples: Path) -> None:
    # The digits network at 5 %: single classes stop at the tenth that the last class is.
    inspection = inspect_model(
        samples / "digits_cnn.onnx", device="rram-write-verify-3pct", tolerance=0.05
    )
    data = load_data(samples / "digits_cnn.toml", inputs=inspection.network.inputs)
    runtime = open_network(
        inspection.network, inspection.scan, inspection.placement, data, workers=2
    )
    result = search(Subject(runtime, inspection.placement), Run(workers=2, effort="standard"))
    by_name = {member.name: member.score for member in result.members}
    collapse, pairs = by_name["class_collapse"], by_name["pair_collapse"]
    assert collapse is not None
    assert pairs is not None
    assert result.score.value <= 0.06
    assert pairs.value < collapse.value
    assert result.passes <= 600


def test_pairs_are_left_out_where_nothing_collapsed(small: Small) -> None:
    result = search(Subject(*small), Run(seed=3, effort="quick"))
    (pairs,) = (member for member in result.members if member.name == "pair_collapse")
    assert pairs.score is None
    assert pairs.passes == 0


def test_workers_change_nothing(small: Small) -> None:
    first, second = (
        search(Subject(*small), Run(seed=5, workers=workers, effort="quick")) for workers in (1, 4)
    )
    for name, deviation in first.deviations.items():
        np.testing.assert_array_equal(deviation, second.deviations[name])
    plain = [
        [replace(member, seconds=0.0) for member in result.members] for result in (first, second)
    ]
    assert plain[0] == plain[1]


def test_seed_changes_the_search(small: Small) -> None:
    first, second = (search(Subject(*small), Run(seed=seed, effort="quick")) for seed in (1, 2))
    assert [member.note for member in first.members] != [member.note for member in second.members]


def test_zero_tolerance_gives_the_quantised_score(opened: Opener) -> None:
    runtime, placement = opened(MLP, mlp_weights(), {"x": normal_samples(60, 6)}, tolerance=0.0)
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.score == runtime.quantised
    assert not any(deviation.any() for deviation in result.deviations.values())


def test_known_patterns_take_part(small: Small) -> None:
    runtime, placement = small
    far = {
        name: np.full(tensor.shape, 1e3, np.float32) for name, tensor in placement.tensors.items()
    }
    result = search(Subject(runtime, placement), Run(effort="quick"), known={"monte_carlo": far})
    entry = result.members[-1]
    assert entry.name == "monte_carlo"
    assert entry.note == "brought to the border of the box"
    assert entry.score is not None
    assert result.score.value <= entry.score.value


def test_argmin_decisions(opened: Opener) -> None:
    runtime, placement = opened(
        MLP, mlp_weights(), {"x": normal_samples(100, 6)}, decision=Decision(read="argmin")
    )
    assert search(Subject(runtime, placement), Run(effort="quick")).score.value < 0.8


def test_threshold_behind_a_sigmoid(opened: Opener) -> None:
    text = (
        MLP.replace("float[N, 4] y", "float[N, 1] y")
        .replace("float[12, 4] w2", "float[12, 1] w2")
        .replace("y = M", "z = M")
    )
    text = text.replace("}", "y = Sigmoid(z) }")
    weights = {**mlp_weights(), "w2": mlp_weights()["w2"][:, :1].copy()}
    runtime, placement = opened(
        text,
        weights,
        {"x": normal_samples(100, 6)},
        decision=Decision(read="threshold", threshold=0.5),
    )
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.score.value < 0.9
    assert {member.name: member.note for member in result.members}[
        "dlr"
    ] == "needs three classes, the decision has 2"


def test_labels_chosen_inside_the_graph(opened: Opener) -> None:
    text = MLP.replace("float[N, 4] y", "int64[N] k").replace(
        "}", "k = ArgMax<axis = 1, keepdims = 0>(y) }"
    )
    runtime, placement = opened(
        text, mlp_weights(), {"x": normal_samples(100, 6)}, decision=Decision(read="label")
    )
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.has_twin
    assert result.score.value < 0.8


def test_regression_error_grows(opened: Opener) -> None:
    targets = normal_samples(100, 4)
    runtime, placement = opened(
        MLP,
        mlp_weights(),
        {"x": normal_samples(100, 6)},
        targets,
        decision=Decision(read="value", metric="rmse"),
        tolerance=0.1,
    )
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.score.value > 1.3 * runtime.quantised.value
    assert result.score.count is None
    notes = {member.name: member.note for member in result.members}
    assert notes["smooth_accuracy"] == "a regression has no decisions"


def test_positions_of_a_segmentation(opened: Opener) -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    net (float[N, 2, 4, 4] x) => (float[N, 3, 4, 4] y) <float[6, 2, 3, 3] w1, float[3, 6, 1, 1] w2>
    { h = Conv<pads = [1, 1, 1, 1]>(x, w1) \n r = Relu(h) \n y = Conv(r, w2) }"""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(6, 2, 3, 3)).astype(np.float32),
        "w2": random.normal(size=(3, 6, 1, 1)).astype(np.float32),
    }
    runtime, placement = opened(
        text, weights, {"x": normal_samples(20, 2, 4, 4)}, decision=Decision(axis=1)
    )
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.score.num_samples == 20 * 16
    assert result.score.value < 0.85


def test_recurrent_network(opened: Opener) -> None:
    text = """<ir_version: 8, opset_import: ["" : 14]>
    net (float[N, 5, 3] x) => (float[N, 4] y) <float[1, 32, 3] w, float[1, 32, 8] r, float[8, 4] v>
    { t = Transpose<perm = [1, 0, 2]>(x) \n all, last, cell = LSTM<hidden_size = 8>(t, w, r)
      axes = Constant<value_ints = [0]>() \n h = Squeeze(last, axes) \n y = MatMul(h, v) }"""
    random = np.random.default_rng(0)
    shapes = {"w": (1, 32, 3), "r": (1, 32, 8), "v": (8, 4)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    runtime, placement = opened(text, weights, {"x": normal_samples(60, 5, 3)})
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert set(result.deviations) == {"w", "r", "v"}
    assert result.has_twin
    assert result.score.value < 0.75


@pytest.mark.parametrize("batch", ["1, 6", "5, 6", "6"])
def test_fixed_batches_and_none(opened: Opener, batch: str) -> None:
    out = batch.replace("6", "4")
    text = MLP.replace("float[N, 6] x", f"float[{batch}] x").replace(
        "float[N, 4] y", f"float[{out}] y"
    )
    runtime, placement = opened(text, mlp_weights(), {"x": normal_samples(42, 6)})
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert result.has_twin
    assert result.score.value < 0.8
    assert result.score == result.engine_score


def test_without_a_twin_only_gradient_free_members_search(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cimrobust.twin.ops.program.SOURCES", [lambda node, proto, scope: None])
    runtime, placement = opened(MLP, mlp_weights(), {"x": normal_samples(200, 6)}, tolerance=0.1)
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert not result.has_twin
    assert "MatMul" in (result.twin_reason or "")
    assert [warning.code for warning in result.warnings] == ["NO_TWIN"]
    assert {member.name for member in result.members if member.score is not None} == {
        "random_corners",
        "corner_search",
    }
    assert result.score.value < 0.9


def test_layers_that_gradients_do_not_reach_are_named(opened: Opener) -> None:
    text = MLP.replace("r = Relu(a)", "r = Round(a)")
    runtime, placement = opened(text, mlp_weights(), {"x": normal_samples(100, 6)})
    result = search(Subject(runtime, placement), Run(effort="quick"))
    assert [warning.code for warning in result.warnings if "'w1'" in warning.text] == [
        "ZERO_GRADIENT"
    ]
    smooth = next(member.score for member in result.members if member.name == "smooth_accuracy")
    assert smooth is not None
    assert smooth.value < 0.8  # straight-through gradients still lead somewhere


def test_unknown_effort(small: Small) -> None:
    with pytest.raises(UsageError, match="effort must be one of"):
        search(Subject(*small), Run(effort="heroic"))


def test_where_nothing_is_right_any_more_the_search_ends(opened: Opener) -> None:
    labels = np.zeros(60, np.int64)  # one class: a chip that never says it is easily found
    runtime, placement = opened(
        MLP, mlp_weights(), {"x": normal_samples(60, 6)}, labels, tolerance=0.5
    )
    result = search(Subject(runtime, placement), Run(seed=1, effort="quick"))
    assert result.score.value == 0
    assert result.members[-1].name == "fast_run"
    assert (
        result.members[-1].note
        == "no decision of the crafting samples is right any more: nothing is left to search for"
    )
    assert result.passes < budget.budget_of("quick").num_passes
