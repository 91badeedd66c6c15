"""Searching networks whose activations are steps: gradients come from Gaussians of some widths."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import WIDTH, open_gradients
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.search_results import SearchResult
from tests.unit.search.conftest import MLP, Opener, mlp_weights, samples

pytestmark = pytest.mark.usefixtures("cheap")

# Values far apart: straight through, the gradient of the clamp that stands for a Sign is zero.
FORMS = {
    "Sign": "m = Mul(a, k) \n r = Sign(m)",
    "Where": "m = Mul(a, k) \n c = Greater(m, zero) \n r = Where(c, one, minus)",
    "Cast": "m = Mul(a, k) \n c = Less(zero, m) \n r = Cast<to = 1>(c)",
}


def _open(opened: Opener, form: str) -> Subject:
    text = MLP.replace("r = Relu(a)", form).replace(
        "float[12] b1", "float[12] b1, float k, float zero, float one, float minus"
    )
    values = {"k": 1000.0, "zero": 0.0, "one": 1.0, "minus": -1.0}
    weights = {name: np.array(value, np.float32) for name, value in values.items()}
    return Subject(
        *opened(text, {**mlp_weights(), **weights}, {"x": samples(200, 6)}, tolerance=0.04)
    )


def _oracle(subject: Subject) -> GradientOracle:
    oracle = open_gradients(subject, Run(effort="quick")).oracle
    assert oracle is not None
    return oracle


def _find(subject: Subject, workers: int = 1) -> SearchResult:
    return search(subject, Run(seed=1, effort="quick", workers=workers))


@pytest.mark.parametrize("form", FORMS)
def test_steps_far_apart_hide_nothing(
    opened: Opener, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = _open(opened, FORMS[form])
    assert _oracle(subject).has_hard_steps
    found = _find(subject)
    monkeypatch.setattr(GradientOracle, "smooth_hard_steps", lambda self, width: None)
    assert not _oracle(subject).has_hard_steps
    straight_through = _find(subject)
    assert found.passes <= 99
    notes = {member.name: member.note for member in found.members}
    assert notes["smooth_accuracy"].startswith("from zero")
    assert found.score.value < straight_through.score.value - 0.02


def test_ordinary_networks_have_no_hard_steps(small: tuple[Runtime, Placement]) -> None:
    oracle = _oracle(Subject(*small))
    assert not oracle.has_hard_steps
    with oracle.widened(0.1):
        assert not oracle.has_hard_steps


def test_fine_quantisers_are_no_hard_steps(opened: Opener) -> None:
    text = MLP.replace(
        "r = Relu(a)", "q = QuantizeLinear(a, s, z) \n r = DequantizeLinear(q, s, z)"
    ).replace("float[12] b1", "float[12] b1, float s, uint8 z")
    for step, is_hard in ((0.02, False), (2.0, True)):
        weights = {**mlp_weights(), "s": np.array(step, np.float32), "z": np.array(9, np.uint8)}
        subject = Subject(*opened(text, weights, {"x": samples(200, 6)}))
        assert _oracle(subject).has_hard_steps is is_hard


def test_widths_are_lent(opened: Opener) -> None:
    oracle = _oracle(_open(opened, FORMS["Sign"]))
    assert oracle._twin.width == WIDTH
    with oracle.widened(0.1):
        assert oracle._twin.width == 0.1
    assert oracle._twin.width == WIDTH


def test_steps_do_not_depend_on_the_number_of_workers(opened: Opener) -> None:
    subject = _open(opened, FORMS["Where"])
    one, two = _find(subject), _find(subject, workers=2)
    assert one.score == two.score
    assert all(np.array_equal(one.deviations[n], two.deviations[n]) for n in one.deviations)
