"""The interval bound in the loss: where it is tight, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.data.decision import Decision
from cimrobust.progress import NullProgress
from cimrobust.training import tightness
from cimrobust.training.interval_bound import worst_loss
from cimrobust.training.loop import Trained, train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.session import Session
from cimrobust.training.tightness import bound_use
from cimrobust.training.training_job import make_step
from tests.unit.training.conftest import MLP, dataset, profile_of, quick, weights_of_mlp

DEPTH = 6
DEEP = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <float[6, 16] w0, {stored}, float[16, 4] last> {{
  h0 = MatMul(x, w0)
  r0 = Relu(h0)
{body}
  y = MatMul(r{depth}, last)
}}
""".format(
    stored=", ".join(f"float[16, 16] w{index}" for index in range(1, DEPTH + 1)),
    body="\n".join(
        f"  h{index} = MatMul(r{index - 1}, w{index})\n  r{index} = Relu(h{index})"
        for index in range(1, DEPTH + 1)
    ),
    depth=DEPTH,
)


def deep_weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    sizes = {"w0": (6, 16), "last": (16, 4)} | {
        f"w{index}": (16, 16) for index in range(1, DEPTH + 1)
    }
    return {
        name: (random.normal(size=shape) * np.sqrt(2 / shape[0])).astype(np.float32)
        for name, shape in sizes.items()
    }


def trained(session: Session, **knobs: float) -> Trained:
    method = recipe_of("cimrobust").method({"clipping": 1.0, **knobs})
    return train(session.job(method, quick()), session.parameters, progress=NullProgress())


def same(first: Trained, second: Trained) -> bool:
    mine, theirs = first.parameters.to_numpy(), second.parameters.to_numpy()
    return all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_tight_bound_has_its_share(opened):
    session = opened()
    without, given = trained(session, bound=0.0), trained(session, bound=0.3)
    assert (without.bound.share, without.bound.ratio, without.bound.reason) == (0.0, None, None)
    assert given.bound.share == 0.3
    assert given.bound.ratio is not None
    assert 1.0 <= given.bound.ratio <= 10.0
    assert not same(without, given)


def test_loose_bound_has_none_and_changes_nothing(opened):
    session = opened(DEEP, deep_weights(), profile=profile_of(0.1))
    without, given = trained(session, bound=0.0), trained(session, bound=0.3)
    assert given.bound.share == 0.0
    assert given.bound.ratio is not None
    assert given.bound.ratio > 10.0
    assert same(without, given)
    assert trained(session, bound=0.3, tight=1.01 * given.bound.ratio).bound.share == 0.3


def test_bound_is_above_what_every_chip_loses(opened):
    session = opened()
    method = recipe_of("cimrobust").method({"clipping": 1.0})
    job = session.job(method, quick())
    step = make_step(
        job,
        session.parameters,
        job.validation,
        progress=0.0,
        generator=torch.Generator().manual_seed(0),
        memory={},
    )
    ratio = bound_use(method, step).ratio
    assert ratio is not None
    assert ratio >= 1.0, "an attacked loss above the bound of the loss contradicts it"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MLP.replace("r = Relu(a)", "r = Sinh(a)"), "an operator without a bound"),
        (
            MLP.replace("float[N, 6]", "float[1, 6]")
            .replace("float[N, 4] y", "float[1, 4] y")
            .replace("r = Relu(a)", "z = Sinh(a)\n  r = Relu(z)"),
            "the same, one sample a run",
        ),
    ],
)
def test_networks_without_a_bound_are_trained_without(opened, text, why):
    result = trained(opened(text))
    assert (result.bound.share, result.bound.ratio) == (0.0, None), why
    assert "needs a bound of every operator" in (result.bound.reason or "")
    assert "use another method" not in (result.bound.reason or "")
    assert len(result.rows) == 4


def test_regressions_and_teachers_are_not_asked(opened):
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 6)).astype(np.float32)
    unlabelled = opened(training=dataset(x, None))
    assert "decisions with labels" in (trained(unlabelled).bound.reason or "")
    targets = random.normal(size=(200, 4)).astype(np.float32)
    value = opened(
        training=dataset(x, targets, Decision(read="value", metric="mse")),
        evaluation=dataset(x + 50, targets),
    )
    assert "decisions with labels" in (trained(value).bound.reason or "")


@pytest.mark.parametrize(
    "bound", [float("inf"), float("nan"), RuntimeError("shapes"), IndexError("axis")]
)
def test_bound_that_fails_or_is_not_finite_costs_the_bound_alone(opened, monkeypatch, bound):
    def broken(step, size):
        if isinstance(bound, Exception):
            raise bound
        return torch.tensor(bound)

    monkeypatch.setattr(tightness, "worst_loss", broken)
    result = trained(opened())
    assert (result.bound.share, result.bound.ratio) == (0.0, None)
    assert ("report this" if isinstance(bound, Exception) else "must be finite") in (
        result.bound.reason or ""
    )


def test_weights_follow_the_bound(opened):
    """With the bound as the whole loss, the bound falls."""
    weights = weights_of_mlp()
    session = opened(weights=weights)
    method = recipe_of("cimrobust").method(
        {"clipping": 1.0, "bound": 1.0, "clean": 0.0, "start": 1.0, "ramp": 0.0}
    )
    job = session.job(method, quick(epochs=10))
    result = train(job, session.parameters, progress=NullProgress())

    def bound(parameters):
        step = make_step(
            job,
            parameters,
            job.validation,
            progress=0.0,
            generator=torch.Generator().manual_seed(0),
            memory={},
        )
        with torch.no_grad():
            return float(worst_loss(step, 1.0))

    assert bound(result.parameters) < 0.5 * bound(session.parameters)
