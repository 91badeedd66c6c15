"""A bound that does not fit costs itself and nothing else; one that fits in pieces is the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.certify import backward, batch_memory, samples_apart
from cimrobust.certify import bound_summary as summary
from cimrobust.certify import bounded_network as network
from cimrobust.certify.bound_summary import certify_run
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.certify.propagate import propagate
from cimrobust.certify.refusal import Refusal
from cimrobust.engine.subject import Subject
from cimrobust.run import Run
from tests.unit.certify.conftest import Maker

_GB = 10**9


def test_forms_in_pieces_give_the_same_bounds(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_bounds(*make("residual", seed=3))
    assert isinstance(opened, BoundedNetwork)
    whole = certify(opened, scale=0.2)
    monkeypatch.setattr(backward, "_MOST_VALUES", 1)
    pieces = certify(opened, scale=0.2)
    np.testing.assert_array_equal(whole.certified, pieces.certified)
    np.testing.assert_allclose(
        whole.margin, pieces.margin, rtol=1e-12
    )  # float64 sums may be blocked in another way


def test_a_batch_that_does_not_fit_is_refused_before_it_is_tried(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_memory, "available_memory", lambda: _GB)
    refused = open_bounds(*make("mlp"))
    assert isinstance(refused, Refusal)
    assert "16 samples need about 1.07 GB of memory, and 0.4 GB may be taken" in str(refused)


def test_of_a_large_network_fewer_samples_are_bounded_together(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make("residual", seed=3)
    whole = open_bounds(*made)
    monkeypatch.setattr(batch_memory, "_BATCH_BYTES", 1)
    monkeypatch.setattr(backward, "_MOST_VALUES", 1)
    few = open_bounds(*made)
    assert isinstance(whole, BoundedNetwork)
    assert isinstance(few, BoundedNetwork)
    assert (whole.batch, few.batch) == (16, 1)
    together, alone = certify(whole, scale=0.2), certify(few, scale=0.2)
    np.testing.assert_array_equal(together.certified, alone.certified)


def test_a_network_one_sample_of_which_does_not_fit_is_refused(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_memory, "_BATCH_BYTES", 1)
    monkeypatch.setattr(backward, "_MOST_VALUES", 1)
    monkeypatch.setattr(batch_memory, "available_memory", lambda: 1000)
    refused = open_bounds(*make("mlp"))
    assert isinstance(refused, Refusal)
    assert str(refused).startswith("1 sample needs about ")


@pytest.mark.parametrize(("free", "most"), [(_GB, 5), (60_000, 2)])
def test_as_many_samples_are_compared_as_fit(
    make: Maker, monkeypatch: pytest.MonkeyPatch, free: int, most: int
) -> None:
    compared: list[int] = []

    def first(*arguments: object) -> dict[str, torch.Tensor]:
        compared.append(int(str(arguments[-1])))
        return made(*arguments)

    made = samples_apart._first_samples
    monkeypatch.setattr(samples_apart, "_first_samples", first)
    monkeypatch.setattr(samples_apart, "available_memory", lambda: free)
    assert isinstance(open_bounds(*make("cnn")), BoundedNetwork)
    assert compared[:2] == [1, most]


def test_samples_that_cannot_be_compared_cost_the_bound_alone(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_apart, "available_memory", lambda: 1000)
    refused = open_bounds(*make("cnn"))
    assert isinstance(refused, Refusal)
    assert "the tensors of 3 samples need about" in refused.reason
    assert "4e-07 GB may be taken" in refused.reason


def test_a_box_that_does_not_fit_is_refused_before_anything_is_made(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_memory, "planned_memory", lambda: 10_000)
    monkeypatch.setattr(network, "to_torch", lambda *_, **__: pytest.fail("a twin was made"))
    refused = open_bounds(*make("mlp"))
    assert isinstance(refused, Refusal)
    assert (
        "intervals of 232 weights need about 1.11e-05 GB of memory, and 1e-05 GB may be taken"
        in (str(refused))
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_that_runs_out_all_the_same_is_a_reason(
    make: Maker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def runs_out(*_arguments: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(summary, "certify", runs_out)
    found = certify_run(Subject(*make("mlp")), Run(effort="quick"))
    assert found.score is None
    assert "the bound needs more memory than there is" in str(found.refusal)


def test_other_errors_of_the_bounds_are_not_hidden(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object, **_more: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(summary, "certify", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        certify_run(Subject(*make("mlp")), Run(effort="quick"))


def test_linear_bounds_that_cost_too_much_are_left_out_and_said(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, placement = make("mlp")
    linear = certify_run(Subject(runtime, placement), Run(effort="quick"))
    monkeypatch.setattr(summary, "_MOST_COST", {"quick": 1.0})
    found = certify_run(Subject(runtime, placement), Run(effort="quick"))
    assert found.method.startswith("Interval propagation alone")
    assert "effort quick has 1e+00" in found.method
    assert found.score is not None
    assert linear.score is not None
    assert found.score.value <= linear.score.value


@pytest.mark.parametrize("kind", ["mlp", "residual"])
def test_what_is_forgotten_on_the_way_forwards_changes_no_interval(make: Maker, kind: str) -> None:
    opened = open_bounds(*make(kind, seed=3))
    assert isinstance(opened, BoundedNetwork)
    boxes = opened.weights(0.5)
    states = [
        propagate(
            opened.plan,
            opened.inputs,
            opened.constants,
            boxes,
            effort=0.0,
            forwards_only=forwards_only,
        )
        for forwards_only in (False, True)
    ]
    whole, forgetful = (state.interval(opened.plan.tensor) for state in states)
    np.testing.assert_array_equal(whole.lo, forgetful.lo)
    np.testing.assert_array_equal(whole.hi, forgetful.hi)
    assert len(states[1].values) < len(states[0].values) / 2


def test_without_linear_bounds_their_memory_is_not_needed(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_memory, "available_memory", lambda: _GB)
    assert isinstance(open_bounds(*make("mlp")), Refusal)
    assert isinstance(open_bounds(*make("mlp"), most_cost=1.0), BoundedNetwork)
    monkeypatch.setattr(batch_memory, "available_memory", lambda: 1000)
    assert isinstance(open_bounds(*make("mlp"), most_cost=1.0), Refusal)
