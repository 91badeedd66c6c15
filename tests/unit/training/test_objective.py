"""Losses: labels, a teacher, values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.data.decision import Decision
from cimrobust.data.task import Task
from cimrobust.search.readout import Readout
from cimrobust.training.training_loss import objective_of
from tests.unit.training.conftest import MLP, clusters, dataset
from tests.unit.training.test_loop import trained

CLASSES = Readout("y", "classes", axis=1)


def test_teacher_is_the_minimum_of_its_own_loss():
    teacher = np.random.default_rng(0).normal(size=(20, 1, 4))
    task = Task(Decision(), teacher[:, 0].argmax(1), 1, 4)
    objective, targets = objective_of(task, CLASSES, teacher)
    rows = targets[:, 0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective.loss(rows, targets), rows)
    assert float(gradient.abs().max()) < 1e-6
    start = targets[:, 0]
    assert float(objective.loss(start + torch.randn_like(start), targets)) > float(
        objective.loss(start, targets)
    )
    assert objective.labels(targets, 4).tolist() == task.labels.tolist()


def test_small_margins_of_a_teacher_count():
    teacher = np.zeros((8, 1, 3))
    teacher[:, 0, 1] = 1e-3
    objective, targets = objective_of(
        Task(Decision(), np.ones(8, np.int64), 1, 3), CLASSES, teacher
    )
    flipped = targets[:, 0].flip(1).roll(1, 1)
    assert (
        float(objective.loss(flipped, targets))
        > float(objective.loss(targets[:, 0], targets)) + 0.1
    )


@pytest.mark.parametrize(("metric", "expected"), [("rmse", 4.0), ("mae", 2.0)])
def test_regression_has_its_own_loss_in_units_of_its_targets(metric, expected):
    labels = np.array([[-1.0], [1.0]])
    objective, targets = objective_of(
        Task(Decision(read="value", metric=metric), labels, None, None), Readout("y", "value"), None
    )
    assert float(objective.loss(torch.tensor([[1.0], [3.0]]), targets)) == pytest.approx(expected)


def test_networks_without_labels_learn_from_themselves(opened):
    x, _ = clusters(300, 1)
    session = opened(training=dataset(x, None))
    assert session.objective.kind == "teacher"
    result = trained(session, "cimrobust", epochs=4)
    assert result.rows[0].clean > 0.97
    assert result.rows[-1].clean > 0.9


def test_regressions_train_by_their_error(opened):
    x, _ = clusters(300, 1)
    values = (x @ np.arange(24).reshape(6, 4) / 20).astype(np.float64)
    session = opened(MLP, training=dataset(x, values, Decision(read="value", metric="rmse")))
    result = trained(session, "a-trice-projected", epochs=6)
    assert session.objective.kind == "value"
    assert result.rows[-1].clean < 0.7 * result.rows[0].clean
    assert result.rows[-1].attacked >= result.rows[-1].clean
