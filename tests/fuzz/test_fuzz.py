"""A few fuzzed cases of every kind; `tests/benchmarks/fuzz_models.py` runs thousands of the same."""  # noqa: E501

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from tests.fuzz.cases import CASES, run_case
from tests.fuzz.mutations import damage_bytes, damage_json, damage_model, damage_toml
from tests.fuzz.outcome import Fault, Ran, outputs, require_same
from tests.fuzz.random_models import random_inputs, random_model


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("index", range(30))
def test_random_networks_give_right_numbers_or_refusals(index):
    outcome = run_case("inspect", 7, index)
    assert outcome.word != "fault", outcome.text
    assert index % 10 >= 5 or outcome.word in ("number", "accepted")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("index", range(60))
def test_damaged_settings_and_data_are_refused_or_read(index):
    outcome = run_case("files", 7, index)
    assert outcome.word != "fault", outcome.text


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("index", [2, 5, 6, 7, 8, 9])
def test_damaged_runs_end_in_numbers_or_refusals(index):
    outcome = run_case("analyze", 7, index)
    assert outcome.word != "fault", outcome.text


def test_random_networks_are_valid_and_follow_from_their_seed():
    for index in range(10):
        model = random_model([3, index])
        onnx.checker.check_model(model)
        assert (
            outputs(model.SerializeToString(), random_inputs(model, 6, np.random.default_rng(0)))
            is not None
        )
        assert model.SerializeToString(deterministic=True) == random_model(
            [3, index]
        ).SerializeToString(deterministic=True)


def test_random_networks_are_of_many_kinds():
    found = {node.op_type for index in range(60) for node in random_model([0, index]).graph.node}
    assert len(found) > 45
    assert {
        "Conv",
        "Gemm",
        "If",
        "Loop",
        "QLinearMatMul",
        "MatMulInteger",
        "DequantizeLinear",
    } <= found


@pytest.mark.parametrize("damage", [damage_bytes, damage_model])
def test_damage_changes_what_it_is_given(damage):
    content = random_model([0, 1]).SerializeToString()
    assert sum(damage(content, np.random.default_rng(seed)) != content for seed in range(20)) > 15


def test_damage_of_texts_changes_them():
    made = {damage_toml("[a]\nb = 1\nc = 2", np.random.default_rng(seed)) for seed in range(20)}
    assert len(made) > 10
    assert (
        len({damage_json({"a": [1, {"b": 2}]}, np.random.default_rng(seed)) for seed in range(20)})
        > 10
    )
    json.loads(damage_json({"a": 1}, np.random.default_rng(0)))


@pytest.mark.parametrize(
    "ran",
    [
        Ran(70, "", "internal error: a long enough sentence\n"),
        Ran(1, "", "error: a long enough sentence\n"),
        Ran(5, "", "two\nlines of a message\n"),
        Ran(5, "", ""),
        Ran(0, "", "Traceback (most recent call last)"),
        Ran(5, "", "error: \x1b[31m a long enough sentence\n"),
    ],
)
def test_what_counts_as_a_fault(ran):
    with pytest.raises(Fault):
        ran.refusal()


def test_wrong_numbers_are_faults():
    with pytest.raises(Fault, match=r"differ by 0\.5"):
        require_same(np.array([1.0, 2.5]), np.array([1.0, 2.0]), "x")
    with pytest.raises(Fault, match="shape"):
        require_same(np.zeros(2), np.zeros(3), "x")
    require_same(np.array([np.nan, 1.0]), np.array([np.nan, 1.0 + 1e-6]), "x")


def test_exceptions_that_reach_the_caller_are_faults(monkeypatch):
    monkeypatch.setitem(CASES, "inspect", lambda *_: 1 / 0)
    assert run_case("inspect", 0, 0).word == "fault"
