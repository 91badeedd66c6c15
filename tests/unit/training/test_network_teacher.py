"""The network before training teaches: what its loss is, and that it is told sample by sample."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cimrobust.data.decision import IGNORED, Decision
from cimrobust.errors import UsageError
from cimrobust.progress import NullProgress
from cimrobust.training.interval_bound import worst_loss
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.network_teacher import Teacher, open_teacher
from cimrobust.training.taught_loss import Taught, taught_loss
from cimrobust.training.training_job import make_step
from cimrobust.training.training_loss import Objective
from tests.unit.training.conftest import clusters, dataset, quick

# Two classes, twice as likely as each other, and the other way round.
TEACHER = torch.tensor([[math.log(2.0), 0.0], [math.log(2.0), 0.0]])
EVEN = torch.zeros(2, 2)
LABELS = torch.tensor([[0], [1]])


def loss(rows: torch.Tensor, share: float, temperature: float = 1.0) -> float:
    return float(
        taught_loss(Objective("classes"), rows, LABELS, Taught(TEACHER, share, temperature))
    )


def test_a_decision_follows_the_teacher_where_it_is_right_and_its_label_where_not():
    apart = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert loss(EVEN, 1.0) == pytest.approx((apart + math.log(2.0)) / 2, rel=1e-6)
    assert loss(EVEN, 0.0) == pytest.approx(math.log(2.0), rel=1e-6)
    assert loss(EVEN, 0.5) == pytest.approx(
        (0.5 * apart + 0.5 * math.log(2.0) + math.log(2.0)) / 2, rel=1e-6
    )


def test_scores_are_divided_by_the_temperature_and_the_loss_multiplied_by_its_square():
    high = math.sqrt(2.0) / (1.0 + math.sqrt(2.0))
    apart = high * math.log(2 * high) + (1 - high) * math.log(2 * (1 - high))
    assert loss(EVEN, 1.0, 2.0) == pytest.approx((4 * apart + math.log(2.0)) / 2, rel=1e-5)


def test_who_scores_as_the_teacher_does_has_nothing_to_learn_from_it():
    rows = TEACHER.clone().requires_grad_()
    found = taught_loss(Objective("classes"), rows, LABELS[[0, 0]], Taught(TEACHER, 1.0, 2.0))
    found.backward()
    assert float(found.detach()) == pytest.approx(0.0, abs=1e-7)
    np.testing.assert_allclose(rows.grad.numpy(), 0.0, atol=1e-7)


def test_a_class_that_the_teacher_masks_out_has_no_part():
    masked = torch.tensor([[math.log(2.0), 0.0, -math.inf]])
    rows = torch.zeros(1, 3, requires_grad=True)
    found = taught_loss(Objective("classes"), rows, LABELS[:1], Taught(masked, 1.0, 1.0))
    found.backward()
    assert float(found.detach()) == pytest.approx(2 / 3 * math.log(2.0) + 1 / 3 * math.log(1.0))
    assert bool(torch.isfinite(rows.grad).all())


def teacher_of(session, **changes: object) -> Teacher:
    return Teacher(
        session.network,
        session.parameters,
        session.samples,
        **{"share": 1.0, "temperature": 1.0, **changes},
    )


SEVERAL = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 2, 4] y) <float[6, 8] w, int64[3] s = {0, 2, 4}> {
  h = MatMul(x, w)
  y = Reshape(h, s)
}
"""


@pytest.fixture
def several(opened):
    """Return a session of two decisions a sample, of which every third is not counted."""
    x, labels = clusters(600, seed=1)
    both = np.stack([labels, (labels + 1) % 4], axis=1)
    decision = Decision(axis=2)
    weights = {"w": np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)}
    other, wanted = clusters(50, seed=2)
    session = opened(
        SEVERAL,
        weights,
        dataset(x, both, decision),
        evaluation=dataset(other, np.stack([wanted, wanted], axis=1), decision),
    )
    targets = session.samples.targets.clone()
    targets.view(-1)[::3] = IGNORED
    return replace(session, samples=replace(session.samples, targets=targets))


def test_scores_that_are_kept_are_those_of_the_samples_and_of_the_decisions_that_count(several):
    """600 samples are more than are scored at once."""
    chosen = torch.tensor([599, 3, 4, 0, 300])
    kept, asked = teacher_of(several), teacher_of(several, most_kept=0)
    expected = (several.samples.inputs["x"][chosen] @ several.parameters.weights["w"]).reshape(
        -1, 4
    )[(several.samples.targets[chosen] != IGNORED).reshape(-1)]
    for teacher in (kept, asked):
        torch.testing.assert_close(teacher.taught(chosen).logits, expected.detach())


def test_the_teacher_does_not_learn(opened):
    session = opened()
    job = session.job(recipe_of("cimrobust").method({"distil": 1.0}), quick(epochs=1))
    for most in (2**20, 0):
        teacher = teacher_of(session, most_kept=most)
        before = teacher.taught(torch.arange(5)).logits.clone()
        train(job, session.parameters, progress=NullProgress())
        torch.testing.assert_close(teacher.taught(torch.arange(5)).logits, before)


def test_only_decisions_with_labels_are_taught(opened):
    taught, untaught = (recipe_of("cimrobust").method({"distil": share}) for share in (0.5, 0.0))
    session = opened()
    teacher = open_teacher(session.job(taught, quick()), session.parameters)
    assert teacher is not None
    assert teacher.taught(torch.arange(2)).share == 0.5
    assert open_teacher(session.job(untaught, quick()), session.parameters) is None
    usual = session.job(recipe_of("cimrobust").method(), quick())
    assert open_teacher(usual, session.parameters) is None
    plain = session.job(recipe_of("plain").method(), quick())
    assert open_teacher(plain, session.parameters) is None
    x, _ = clusters(300, seed=1)
    own = opened(training=dataset(x, None))
    assert open_teacher(own.job(taught, quick()), own.parameters) is None


def test_all_parts_of_the_loss_follow_the_teacher(opened):
    """Attacked, clean and bounded; with a network that is wrong everywhere none does."""
    session = opened()
    for base, bound_share in (("cimrobust", 0.0), ("cimrobust", 0.5)):
        job = session.job(recipe_of(base).method({"passes": 1}), quick())
        step = make_step(
            job,
            session.parameters,
            job.training,
            progress=0.9,
            generator=torch.Generator().manual_seed(3),
            memory={},
            bound_share=bound_share,
        )
        labels = job.objective.labels(job.training.targets, 4)
        wrong = torch.nn.functional.one_hot((labels + 1) % 4, 4).float()
        right = torch.nn.functional.one_hot(labels, 4).float()

        def total(rows: torch.Tensor | None, step=step, job=job) -> float:
            taught = None if rows is None else Taught(rows, 1.0, 1.0)
            fresh = replace(
                step, taught=taught, generator=torch.Generator().manual_seed(3), memory={}
            )
            return float(job.method.loss(fresh).detach())

        assert total(wrong) == pytest.approx(total(None), rel=1e-6)
        assert total(right) < 0.9 * total(None)
    bounded = replace(step, taught=Taught(right, 1.0, 1.0))
    assert float(worst_loss(bounded, 1.0).detach()) < float(worst_loss(step, 1.0).detach())


@pytest.mark.parametrize(
    ("given", "named"),
    [({"distil": 1.5}, "distil"), ({"distil": -0.1}, "distil"), ({"temperature": 0.0}, "temperat")],
)
def test_shares_and_temperatures_that_cannot_be_are_refused(given, named):
    with pytest.raises(UsageError, match=rf"setting '{named}\w*' of method cimrobust must be"):
        recipe_of("cimrobust").method(given)
