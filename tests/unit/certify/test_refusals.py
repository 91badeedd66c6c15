"""What is not bounded says so, and why."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.refusal import Refusal
from cimrobust.certify.rules.product import MatrixProduct
from cimrobust.certify.rules.rule import Pulled
from cimrobust.data.decision import Decision
from cimrobust.device.converter_tables import AdcTable
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.effect_tables import FaultsTable, ReadNoiseTable, RelaxationTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.place import place
from tests.unit.certify.conftest import Maker
from tests.unit.search.conftest import Opener

EXACT = DeviceProfile("test", "test", device=DeviceTable(tolerance=0.05, sigma=0.01))
HEAD = (
    '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4, 4] x) => (float[N, 4, 3] y)'
    " <float[4, 3] w>"
)


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (replace(EXACT, faults=FaultsTable(stuck_low=0.01)), "stuck devices"),
        (
            replace(EXACT, relaxation=RelaxationTable(sigma=0.01)),
            "outside the tolerance box, with probability",
        ),
        (
            replace(EXACT, device=DeviceTable(distribution="gaussian", sigma=0.01)),
            r"outside the tolerance box, with probability 0\.0027",
        ),
    ],
)
def test_profiles_whose_chips_leave_the_box(
    make: Maker, profile: DeviceProfile, reason: str
) -> None:
    refused = open_bounds(*make("mlp", profile=profile))
    assert isinstance(refused, Refusal)
    assert re.search(reason, refused.reason)


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (replace(EXACT, adc=AdcTable(bits=8)), "has converters"),
        (replace(EXACT, read_noise=ReadNoiseTable(0.01)), "read noise"),
    ],
)
def test_profiles_whose_products_are_not_the_weights(
    make: Maker, profile: DeviceProfile, reason: str
) -> None:
    runtime, _ = make("mlp")
    refused = open_bounds(runtime, place(runtime.scan, profile))
    assert isinstance(refused, Refusal)
    assert reason in refused.reason


def test_every_operator_without_a_bound_is_named(opened: Opener) -> None:
    text = (
        HEAD
        + " { h = MatMul(x, w) s = Softmax(h) t = Transpose<perm=[0,2,1]>(s) m = MatMul(s, t) e ="
        " Sinh(m) d = Tan(h) y = MatMul(e, d) }".replace(") ", ")\n")
    )
    x = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    runtime, placement = opened(
        text,
        {"w": np.ones((4, 3), np.float32)},
        {"x": x},
        decision=Decision(read="value", metric="rmse"),
    )
    refused = open_bounds(runtime, placement)
    assert isinstance(refused, Refusal)
    assert len(refused.nodes) == 2
    assert "(Sinh): no bound is built in for this operator" in refused.nodes[0]
    assert "(Tan): no bound is built in for this operator" in refused.nodes[1]
    assert all(node in refused.reason for node in refused.nodes)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('y = Einsum<equation = "npk,kd->nd">(x, w)', "sums over one operand alone"),
        ('y = Einsum<equation = "...k,kd->...d">(x, w)', "is not one of two plain operands"),
        ('y = Einsum<equation = "kd,npk->npd">(w, x)', "its first operand is a weight"),
    ],
)
def test_forms_without_a_bound_say_why(opened: Opener, body: str, reason: str) -> None:
    text = HEAD + f" {{ {body}\n }}"
    x = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    refused = open_bounds(
        *opened(
            text,
            {"w": np.eye(4, 3, dtype=np.float32)},
            {"x": x},
            decision=Decision(read="value", metric="rmse"),
        )
    )
    assert isinstance(refused, Refusal)
    assert reason in refused.reason


def test_softmax_over_several_axes_is_refused(opened: Opener) -> None:
    text = (
        HEAD.replace('"" : 13', '"" : 12')
        + " { h = MatMul(x, w)\n s = Softmax<axis=1>(h)\n y = Relu(s) }"
    )
    x = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)
    refused = open_bounds(
        *opened(
            text,
            {"w": np.eye(4, 3, dtype=np.float32)},
            {"x": x},
            decision=Decision(read="value", metric="rmse"),
        )
    )
    assert isinstance(refused, Refusal)
    assert "over several axes" in refused.reason


def test_decisions_without_scores(opened: Opener) -> None:
    text = (
        HEAD.replace("4, 3] y", "1] y").replace("float[N, 1]", "int64[N, 4]")
        + " { h = MatMul(x, w)\n a = ArgMax<axis=2, keepdims=0>(h)\n y = Abs(a) }"
    )
    text = text.replace("4, 4] x", "1, 4] x").replace("int64[N, 4]", "int64[N, 1]")
    weights, x = (
        np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32),
        np.ones((4, 1, 4), np.float32),
    )
    refused = open_bounds(*opened(text, {"w": weights}, {"x": x}, decision=Decision(read="label")))
    assert isinstance(refused, Refusal)
    assert "holds labels, not the scores" in refused.reason


def test_several_labels_of_a_top_k_are_refused_with_their_own_reason(opened: Opener) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4] x) => (int64[N, 2] y)'
        " { h = MatMul(x, w)\n v, y = TopK(h, k) }"
    )
    weights = {"w": np.eye(4, dtype=np.float32), "k": np.array([2])}
    x = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    refused = open_bounds(*opened(text, weights, {"x": x}, decision=Decision(read="label")))
    assert isinstance(refused, Refusal)
    assert "are several that a TopK chooses; bounds follow the best one alone" in refused.reason


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_shares_over_another_axis_than_the_classes_are_not_passed(opened: Opener, op: str) -> None:
    text = HEAD + f" {{ h = MatMul(x, w)\n y = {op}<axis=1>(h) }}"
    x = np.random.default_rng(1).normal(size=(4, 4, 4)).astype(np.float32)
    found = open_bounds(
        *opened(text, {"w": np.eye(4, 3, dtype=np.float32)}, {"x": x}, decision=Decision(axis=2))
    )
    assert isinstance(found, BoundedNetwork), found
    assert found.reading.tensor == "y"


def test_a_rule_that_fails_costs_the_bound_and_nothing_else(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> Pulled:
        raise RuntimeError("shape '[3, 4]' is invalid for input of size 7")

    monkeypatch.setattr(MatrixProduct, "backward", fail)
    refused = open_bounds(*make("mlp"))
    assert isinstance(refused, Refusal)
    assert "a fault of this tool (RuntimeError: shape '[3, 4]' is invalid" in refused.reason


def test_activations_without_elements_cost_the_bound_alone(opened: Opener) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4] x) => (float[N, 3] y)'
        " <float[4, 3] w, float[3, 0] to, float[0, 3] back> {"
        " h = MatMul(x, w)\n none = MatMul(h, to)\n zeros = MatMul(none, back)\n"
        " y = Add(h, zeros) }"
    )
    weights = {
        "w": np.eye(4, 3, dtype=np.float32),
        "to": np.zeros((3, 0), np.float32),
        "back": np.zeros((0, 3), np.float32),
    }
    refused = open_bounds(*opened(text, weights, {"x": np.eye(4, dtype=np.float32)}))
    assert isinstance(refused, Refusal)
    assert refused.reason == "tensor 'none' must hold numbers, got no elements"


def test_a_batch_as_long_as_another_axis_is_not_taken_for_it(opened: Opener) -> None:
    # With three samples and three scores, one number a sample is subtracted along the scores; it is
    # the same for all samples, so that values alone do not tell.
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 4] x) => (float[M, 3] y) {'
        " h = MatMul(x, w)\n n = Mul(h, nothing)\n t = MatMul(n, ones)\n y = Sub(t, n) }"
    )
    weights = {
        "w": np.eye(4, 3, dtype=np.float32),
        "ones": np.ones(3, np.float32),
        "nothing": np.float32(0),
    }
    x = np.eye(3, 4, dtype=np.float32)
    refused = open_bounds(*opened(text, weights, {"x": x}))
    assert isinstance(refused, Refusal)


def test_an_engine_that_computes_something_else_costs_the_bound(
    make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, placement = make("mlp")
    run = type(runtime.plain).run
    monkeypatch.setattr(
        type(runtime.plain), "run", lambda *given, **named: run(*given, **named) + 100
    )
    refused = open_bounds(runtime, placement)
    assert isinstance(refused, Refusal)
    assert "other scores than exact arithmetic does, further off than rounding" in refused.reason
