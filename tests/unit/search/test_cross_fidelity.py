from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search import search_budget as budget
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import MemberResult, SearchResult
from tests.unit.search.conftest import MLP, Opener, mlp_weights, samples

pytestmark = pytest.mark.usefixtures("cheap")


def _member(result: SearchResult, name: str) -> MemberResult:
    return next(member for member in result.members if member.name == name)


def _fires(result: SearchResult) -> None:
    assert "GRADIENT_MASKING" in [warning.code for warning in result.warnings]
    repeat, control, native = (
        _member(result, name)
        for name in ("repeat_after_masking", "cross_fidelity", "smooth_accuracy")
    )
    assert repeat.passes > 0
    assert control.score is not None
    assert native.score is not None
    assert repeat.score is not None
    assert control.score.value < native.score.value - 2 / native.score.num_samples
    assert result.score.value <= min(control.score.value, repeat.score.value)
    assert (
        result.passes
        == 1 + sum(member.passes for member in result.members)
        <= budget.budget_of("quick").num_passes
    )


def test_straight_through_gradients_that_cancel_are_noticed(opened: Opener) -> None:
    # A fractional part, x - Floor(x), of values many steps apart: straight through, its gradient is
    # zero, while its own is 1 nearly everywhere.
    result = _search_fractional_part(opened, scale=8.0)
    _fires(result)
    assert _member(result, "cross_fidelity").note.startswith("raw gradients")


def test_fractional_part_of_few_steps_masks_nothing(opened: Opener) -> None:
    result = _search_fractional_part(opened, scale=1.0)
    control, native = (_member(result, name) for name in ("cross_fidelity", "dlr"))
    assert control.score is not None
    assert native.score is not None
    assert native.score.value < control.score.value
    assert not result.warnings


def _search_fractional_part(opened: Opener, *, scale: float) -> SearchResult:
    text = MLP.replace("r = Relu(a)", "m = Mul(a, k) \n f = Floor(m) \n r = Sub(m, f)").replace(
        "float[12] b1", "float[12] b1, float k"
    )
    weights = {**mlp_weights(), "k": np.array(scale, np.float32)}
    return search(
        Subject(*opened(text, weights, {"x": samples(200, 6)}, tolerance=0.02)),
        Run(seed=1, effort="quick"),
    )


def test_saturated_activations_are_noticed(opened: Opener) -> None:
    # Far out on a sigmoid the gradient underflows; the weights of the layer after it hardly matter.
    text = MLP.replace("r = Relu(a)", "m = Mul(a, k) \n r = Sigmoid(m)").replace(
        "float[12] b1", "float[12] b1, float k"
    )
    weights = {**mlp_weights(), "k": np.array(3e4, np.float32)}
    result = search(
        Subject(*opened(text, weights, {"x": samples(200, 6)}, tolerance=0.02)),
        Run(seed=1, effort="quick"),
    )
    _fires(result)
    assert _member(result, "cross_fidelity").note.startswith("softened gradients")


def test_ordinary_networks_have_no_other_gradients(small: tuple[Runtime, Placement]) -> None:
    result = search(Subject(*small), Run(seed=1, effort="quick"))
    control = _member(result, "cross_fidelity")
    assert control.score is None
    assert control.note == "the network neither rounds nor saturates: there are no other gradients"
    assert not result.warnings


def test_an_ordinary_sigmoid_is_no_masking(opened: Opener) -> None:
    result = search(
        Subject(*opened(MLP.replace("Relu", "Sigmoid"), mlp_weights(), {"x": samples(200, 6)})),
        Run(seed=1, effort="quick"),
    )
    assert _member(result, "cross_fidelity").passes > 0
    assert re.match(
        r"softened gradients \(\w+: \d+ right, \d+ on the softened network\)",
        _member(result, "cross_fidelity").note,
    )
    assert (
        _member(result, "repeat_after_masking").note
        == "no control found more than the gradients did"
    )
    assert "GRADIENT_MASKING" not in [warning.code for warning in result.warnings]


def test_quantised_activations_are_no_masking_where_straight_through_gradients_lead_on(
    opened: Opener,
) -> None:
    text = MLP.replace(
        "r = Relu(a)", "q = QuantizeLinear(a, s, z) \n r = DequantizeLinear(q, s, z)"
    )
    text = text.replace("float[12] b1", "float[12] b1, float s, uint8 z")
    weights = {**mlp_weights(), "s": np.array(0.1, np.float32), "z": np.array(0, np.uint8)}
    result = search(
        Subject(*opened(text, weights, {"x": samples(200, 6)})), Run(seed=1, effort="quick")
    )
    assert _member(result, "cross_fidelity").passes > 0
    assert "GRADIENT_MASKING" not in [warning.code for warning in result.warnings]


def test_controls_cost_no_more_than_the_budget(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(budget._LEVELS, "quick", replace(budget.budget_of("quick"), control=3))
    result = search(
        Subject(*opened(MLP.replace("Relu", "Tanh"), mlp_weights(), {"x": samples(100, 6)})),
        Run(effort="quick"),
    )
    assert _member(result, "cross_fidelity").passes == 3
