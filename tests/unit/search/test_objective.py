from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cimrobust.search.losses import (
    Collapse,
    CrossEntropy,
    Hinge,
    Loss,
    MarginRatio,
    PairCollapse,
    RegressionError,
    Shift,
    SmoothAccuracy,
    margins,
    median_scale,
    smooth_accuracy_of,
)

LOGITS = torch.tensor([[3.0, 1.0, -2.0], [-1.0, -4.0, -3.0], [0.0, 5.0, 1.0]])
LABELS = torch.tensor([0, 1, 2])


def test_margin_is_to_the_true_runner_up_also_below_zero() -> None:
    assert margins(LOGITS, LABELS).tolist() == [2.0, -3.0, -4.0]
    assert margins(torch.tensor([[-1.0, -4.0]]), torch.tensor([0])).tolist() == [3.0]


def test_median_scale_ignores_what_is_not_finite() -> None:
    assert median_scale(torch.tensor([float("nan"), float("inf"), 0.0, -2.0, 3.0, 4.0])) == 3.0
    assert median_scale(torch.tensor([0.0])) == 1.0


def test_smooth_accuracy_tends_to_the_accuracy() -> None:
    assert smooth_accuracy_of(margins(LOGITS, LABELS), temperature=1e-3) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "loss",
    [SmoothAccuracy(), CrossEntropy(), MarginRatio(), Hinge(), Hinge(0.2)],
    ids=lambda loss: loss.name,
)
def test_losses_grow_when_a_correct_decision_is_pushed_to_the_boundary(loss: Loss) -> None:
    logits = LOGITS.clone().requires_grad_()
    terms = loss.terms(logits, LABELS)
    loss.loss(terms, loss.scale_of(terms.detach())).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


def test_hinge_counts_only_decisions_that_are_correct() -> None:
    logits = LOGITS.clone().requires_grad_()
    Hinge().loss(margins(logits, LABELS), 1.0).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1:].abs().sum() == 0


def test_margin_ratio_is_free_of_shift_and_scale() -> None:
    torch.testing.assert_close(
        MarginRatio().terms(LOGITS, LABELS), MarginRatio().terms(10 * LOGITS - 3, LABELS)
    )


def test_collapse_does_not_count_decisions_that_should_be_the_target() -> None:
    assert Collapse(1).terms(LOGITS, LABELS).tolist() == [2.0, 0.0, -4.0]


def test_a_pair_turns_the_last_class_too() -> None:
    loss = PairCollapse(target=1, other=2)
    terms = loss.terms(LOGITS, LABELS)
    goals = [2 if int(label) == 1 else 1 for label in LABELS]
    assert terms.tolist() == [
        float(row[label] - row[goal])
        for row, goal, label in zip(LOGITS, goals, LABELS, strict=True)
    ]
    assert loss.loss(torch.tensor([3.0, -0.1, -5.0]), 1.0).tolist() == pytest.approx(
        [-3.0, 0.1, 0.2]
    )


@pytest.mark.parametrize(
    ("metric", "expected"), [("rmse", [1.0, 4.0]), ("mae", [1.0, 2.0]), ("max_error", [1.0, 256.0])]
)
def test_regression_error_follows_the_metric(metric: str, expected: list[float]) -> None:
    errors: Tensor = RegressionError(metric).terms(
        torch.tensor([[2.0], [1.0]]), torch.tensor([1.0, 3.0])
    )
    assert RegressionError(metric).loss(errors, 1.0).tolist() == expected


def test_shift_rewards_one_direction() -> None:
    assert Shift(-1.0).loss(torch.tensor([2.0, -1.0]), 2.0).tolist() == [-1.0, 0.5]
