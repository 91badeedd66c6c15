from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search import attack_set
from cimrobust.search import search_budget as budget
from cimrobust.search.attack_set import attack_subset, operations_per_sample
from cimrobust.search.climb import checkpoints
from cimrobust.search.ensemble import search
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.search_budget import EFFORTS, budget_for, budget_of, least_passes
from cimrobust.twin.to_torch import Twin, to_torch
from tests.unit.search.conftest import MLP, Opener, mlp_weights, samples


def test_small_sets_are_used_whole() -> None:
    assert attack_subset(np.zeros(5, np.int64), count=10, seed=0, is_regression=False).tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_classes_get_equal_shares_as_far_as_they_have_samples() -> None:
    labels = np.array([0] * 500 + [1] * 40 + [2] * 500)
    chosen = attack_subset(labels, count=240, seed=3, is_regression=False)
    assert len(set(chosen.tolist())) == 240
    assert np.bincount(labels[chosen]).tolist() == [100, 40, 100]


def test_subset_is_a_function_of_the_seed() -> None:
    labels = np.arange(1000) % 7
    first, again, other = (
        attack_subset(labels, count=100, seed=seed, is_regression=False).tolist()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(("effort", "passes"), [("quick", 100), ("standard", 600)])
def test_budgets_keep_their_promise(effort: str, passes: int) -> None:
    assert budget_of(effort).num_passes <= passes
    assert budget_of(effort).max_samples <= 1000


@pytest.mark.parametrize(
    ("effort", "tolerance"), [("quick", 0.0), ("quick", 0.02), ("quick", 0.1), ("standard", 0.1)]
)
def test_no_search_makes_more_passes_than_its_budget(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, effort: str, tolerance: float
) -> None:
    made = []
    evaluate = GradientOracle.evaluate
    monkeypatch.setattr(
        GradientOracle,
        "evaluate",
        lambda self, *arguments: made.append(1) or evaluate(self, *arguments),
    )
    # Rounding, so that the controls run too; few samples, so that it is quick.
    text = MLP.replace("r = Relu(a)", "q = Round(a) \n r = Relu(q)")
    runtime, placement = opened(text, mlp_weights(), {"x": samples(24, 6)}, tolerance=tolerance)
    result = search(Subject(runtime, placement), Run(effort=effort))
    assert len(made) == result.passes <= {"quick": 100, "standard": 600}[effort]
    assert result.passes == 1 + sum(member.passes for member in result.members)


def test_a_member_that_wants_more_is_stopped(
    small: tuple[Runtime, Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy = replace(budget_of("quick"), smooth=(10,), entropy=(400,), pair_share=400)
    monkeypatch.setattr(type(greedy), "num_passes", 40)
    monkeypatch.setitem(budget._LEVELS, "quick", greedy)
    assert search(Subject(*small), Run(effort="quick")).passes <= 40


def test_unknown_effort_is_refused() -> None:
    with pytest.raises(
        UsageError, match="effort must be one of quick, standard, thorough, got 'huge'"
    ):
        budget_of("huge")
    assert EFFORTS == ("quick", "standard", "thorough")


def test_checkpoints_come_ever_closer() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_costly_networks_get_fewer_samples(small: tuple[Runtime, Placement]) -> None:
    runtime, _ = small
    twin = to_torch(runtime.deployed.model, weight_names=runtime.deployed.weight_names)
    plenty, scarce = (
        replace(budget_of("quick"), max_operations=operations) for operations in (1e12, 1e8)
    )
    operations = operations_per_sample(twin, runtime)
    assert plenty.affordable(operations) == 1000
    # 2 * (6 * 12 + 12 * 4) operations and 12 + 12 + 12 + 4 elements a sample, three runs a pass
    assert scarce.affordable(operations) == pytest.approx(
        1e8 / (3 * plenty.num_passes * (240 + 50 * 40)), rel=0.3
    )


@pytest.mark.parametrize(
    ("operations", "count"),
    [
        (1e7, 1000),  # a small convolutional network
        (1.1e8, 128),  # cifar_resnet8_qlinear of the model zoo: the usual number, though costly
        (9.5e9, 10),  # ResNet-50 at 224 x 224
        (1e12, 8),
    ],
)
def test_quick_is_capped_for_every_network(operations: float, count: int) -> None:
    assert budget_of("quick").affordable(operations) == count


def test_other_efforts_take_the_usual_number_whatever_it_costs() -> None:
    assert budget_of("standard").affordable(9.5e9) == 128


def test_a_large_network_says_on_how_few_samples_chips_were_made(
    small: tuple[Runtime, Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = replace(budget_of("quick"), max_operations=1.0, usual_operations=1.0)
    monkeypatch.setitem(budget._LEVELS, "quick", poor)
    result = search(Subject(*small), Run(effort="quick"))
    assert result.crafting_samples == 8
    assert result.score.num_samples == 200
    assert [warned.code for warned in result.warnings] == ["FEW_ATTACK_SAMPLES"]
    assert "made on 8 of 200 samples" in result.warnings[0].text


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_run_may_state_fewer_passes(effort: str) -> None:
    least, most = least_passes(effort), budget_of(effort).num_passes
    shorter = [budget_for(Run(effort=effort, passes=passes)) for passes in (least, most // 2, most)]
    assert [budget.num_passes for budget in shorter[::2]] == [least, most]
    assert 0.9 * (most // 2) < shorter[1].num_passes <= most // 2
    # As many samples as the whole search has.
    counts = [budget.affordable(4e7) for budget in (*shorter, budget_of(effort))]
    assert max(counts) - min(counts) <= 1
    with pytest.raises(UsageError, match=f"passes must be from {least} to {most}"):
        budget_for(Run(effort=effort, passes=least - 1))


def test_the_shortest_search_runs(small: tuple[Runtime, Placement]) -> None:
    run = Run(effort="quick", passes=least_passes("quick"), attack_samples=8)
    result = search(Subject(*small), run)
    assert (result.passes <= least_passes("quick"), result.crafting_samples) == (True, 8)
    assert not [warned for warned in result.warnings if warned.code == "MEMBER_FAILED"]


def test_operations_are_counted_on_few_samples_and_nothing_is_kept(
    small: tuple[Runtime, Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, _ = small
    twin = to_torch(runtime.deployed.model, weight_names=runtime.deployed.weight_names)
    batches = []
    forward = Twin.forward

    def counted(self: Twin, inputs: Any, *arguments: Any) -> Any:
        made = forward(self, inputs, *arguments)
        batches.append(len(inputs["x"]))
        with pytest.raises(AssertionError, match="without a backward run"):
            made["y"].sum().backward()
        return made

    monkeypatch.setattr(Twin, "forward", counted)
    operations_per_sample(twin, runtime)
    assert batches == [2, 3]


@pytest.mark.parametrize(
    "compute",
    [
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.Linear(8, 5),
        lambda x: torch.einsum("nchw,nkhw->nck", x, x),
    ],
    ids=["convolution", "linear", "composed"],
)
def test_operations_are_those_that_torch_counts(compute):
    x = torch.ones(2, 3, 8, 8)
    ours, theirs = attack_set._ProductCounter(), FlopCounterMode(display=False)
    with ours:
        compute(x)
    with theirs:
        compute(x)
    assert ours.count == theirs.get_total_flops() > 0
