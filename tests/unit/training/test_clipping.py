"""Clipping: no further than the network before training bears."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cimrobust.progress import NullProgress
from cimrobust.training.clipping import affordable_range, clip_weights
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.parameters import Parameters
from cimrobust.training.training_loss import Objective
from cimrobust.training.training_protocol import Method, Step
from tests.unit.training.conftest import quick

CLASSES = Objective("classes")


def method(reach: float | None = 2.0, clipping_loss: float = 0.05) -> Method:
    return Method("narrow", "test", Step.loss, weight_range=reach, clipping_loss=clipping_loss)


def weights(largest: float) -> Parameters:
    """One tensor: 199 weights of size 1, and one that sticks out."""
    tensor = torch.ones(200)
    tensor[::2] = -1.0
    tensor[0] = -largest
    return Parameters({"w": tensor}, {}, {})


def largest_of(parameters: Parameters) -> Tensor:
    return parameters.weights["w"].abs().max()


def test_range_is_widened_until_the_network_bears_it():
    # The accuracy falls by a tenth of what the largest weight loses.
    start = weights(5.0)
    scores = []

    def clean(parameters: Parameters) -> float:
        scores.append(1.0 - 0.1 * float(5.0 - largest_of(parameters)))
        return scores[-1]

    found = affordable_range(method(), start, CLASSES, clean)
    spread = float(start.weights["w"].std(unbiased=False))
    assert found is not None
    assert found > 2.0
    assert 5.0 - found * spread <= 0.5 < 5.0 - (found - 0.5) * spread
    assert float(largest_of(start)) == 5.0
    assert len(scores) == 2 + round((found - 2.0) / 0.5)


def test_range_is_kept_where_it_costs_little_or_everything_is_allowed():
    assert affordable_range(method(), weights(5.0), CLASSES, lambda parameters: 0.9) == 2.0
    assert (
        affordable_range(
            method(clipping_loss=1.0),
            weights(5.0),
            CLASSES,
            lambda parameters: float(largest_of(parameters) == 5.0),
        )
        == 2.0
    )


def test_weights_are_not_clipped_where_no_range_will_do_or_none_is_asked_for():
    assert (
        affordable_range(
            method(),
            weights(50.0),
            CLASSES,
            lambda parameters: float(largest_of(parameters) == 50.0),
        )
        is None
    )

    def never(parameters: Parameters) -> float:
        raise AssertionError("nothing is to be scored")

    assert affordable_range(method(reach=None), weights(5.0), CLASSES, never) is None


@pytest.mark.parametrize(("growth", "kept"), [(1.04, True), (1.06, False)])
def test_of_a_regression_the_error_may_grow_by_a_share(growth, kept):
    found = affordable_range(
        method(),
        weights(5.0),
        Objective("value", metric="rmse"),
        lambda parameters: 3.0 * (1.0 if largest_of(parameters) == 5.0 else growth),
    )
    assert (found == 2.0) == kept


def test_clipping_is_in_standard_deviations_of_each_tensor():
    parameters = Parameters(
        {
            "a": torch.linspace(-1, 1, 100),
            "b": 10 * torch.linspace(-1, 1, 100),
            "flat": torch.ones(3),
        },
        {},
        {},
    )
    spread = {
        name: float(tensor.std(unbiased=False)) for name, tensor in parameters.weights.items()
    }
    clip_weights(parameters, 1.2)
    assert float(parameters.weights["a"].max()) == pytest.approx(1.2 * spread["a"])
    assert float(parameters.weights["b"].max()) == pytest.approx(1.2 * spread["b"])
    assert torch.equal(parameters.weights["flat"], torch.ones(3))


def test_training_clips_at_the_range_that_it_states(opened):
    plain = train(
        opened().job(recipe_of("plain").method(), quick(epochs=8)),
        (session := opened()).parameters,
        progress=NullProgress(),
    )
    assert plain.weight_range is None
    learnt = {name: np.asarray(array) for name, array in plain.parameters.to_numpy().items()}
    session = opened(weights=learnt)
    narrow = recipe_of("cimrobust").method({"range": 0.6, "clipping": 0.02})
    result = train(session.job(narrow, quick()), session.parameters, progress=NullProgress())
    assert result.weight_range is not None
    assert result.weight_range > 0.6
    exact = train(
        session.job(recipe_of("cimrobust").method({"range": 0.6, "clipping": 1.0}), quick()),
        session.parameters,
        progress=NullProgress(),
    )
    assert exact.weight_range == 0.6
