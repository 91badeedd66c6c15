"""Policies of any content: they survive being written and read, and none that asks for nothing lets
a network pass.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.policy import Policy, read_policy
from cimrobust.certificate.vacuous import asks_nothing
from cimrobust.certificate.verdict import judge
from cimrobust.data.description_draft import toml
from cimrobust.errors import UsageError
from cimrobust.montecarlo.trial_table import TrialTable
from tests.unit.report import example

_PRINTABLE = st.characters(categories=("L", "N", "P", "S"))
_TEXT = st.text(_PRINTABLE, min_size=1, max_size=20)
_SCORE = st.floats(0, 2, allow_nan=False)
_DIGEST = st.binary(min_size=32, max_size=32).map(bytes.hex)
_KPP = st.fixed_dictionaries(
    {"k": st.floats(0.5, 99.5), "confidence": st.floats(0.01, 0.99), "accuracy": _SCORE}
)
_KIND = st.one_of(
    st.sampled_from(
        [
            "clean_accuracy",
            "worst_found_accuracy",
            "certified_accuracy",
            "cost",
            "no_worse_than_baseline",
        ]
    ).flatmap(lambda kind: st.fixed_dictionaries({kind: _SCORE})),
    st.fixed_dictionaries({"kpp": _KPP}),
    st.fixed_dictionaries(
        {
            "safety_class": st.fixed_dictionaries(
                {"label": st.integers(0, 9), "recall": st.floats(0, 1)}
            )
        }
    ),
)
_OPTIONAL = st.fixed_dictionaries(
    {}, optional={"text": _TEXT, "samples": st.sampled_from(["these", "beyond"])}
)
_ROWS = st.lists(st.tuples(_KIND, _OPTIONAL), min_size=1, max_size=4).map(
    lambda rows: [
        {"id": f"SR-{number}", **kind, **more} for number, (kind, more) in enumerate(rows)
    ]
)
_OLD = st.fixed_dictionaries(
    {"clean_accuracy": _SCORE},
    optional={
        "worst_found_accuracy": _SCORE,
        "kpp": st.lists(_KPP, max_size=3),
        "effort": st.just("quick"),
    },
)
_CONDITIONS = st.fixed_dictionaries(
    {"least_samples": st.integers(1, 10**6)},
    optional={
        "device": _TEXT.filter(lambda text: not text.startswith("sha256:")),
        "least_tolerance": st.floats(1e-6, 1),
        "data_sha256": st.lists(_DIGEST, min_size=1),
        "model_sha256": st.lists(_DIGEST, min_size=1),
        "effort": st.sampled_from(["quick", "thorough"]),
        "least_trials": st.integers(1, 1000),
        "tool": st.just("0.2"),
        "newest_days": st.integers(0, 1000),
    },
)
_ITEM = st.fixed_dictionaries(
    {},
    optional={
        "name": _TEXT,
        "hazards": st.lists(_TEXT, max_size=3),
        "owner": st.lists(_TEXT, max_size=1),
    },
)
_COST = st.fixed_dictionaries(
    {"matrix": st.lists(st.lists(_SCORE, min_size=2, max_size=2), min_size=2, max_size=2)}
)
_POLICY = st.fixed_dictionaries(
    {"require": st.one_of(_ROWS, _OLD)},
    optional={"item": _ITEM, "conditions": _CONDITIONS, "cost": _COST},
)


def file_of(plain: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {toml(value)}" for key, value in plain.items()) + "\n"


@given(_POLICY)
@settings(max_examples=100, deadline=None)
def test_policies_survive_being_written_and_read(plain):
    policy = Policy.model_validate(plain)
    assert Policy.model_validate(json.loads(json.dumps(policy.to_dict()))) == policy
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.toml"
        path.write_text(file_of(plain), encoding="utf-8")
        if any(asks_nothing(row, policy.cost) for row in policy.rows):
            with pytest.raises(UsageError, match="must ask for something"):
                read_policy(path)
        else:
            assert read_policy(path) == policy


def perfect() -> CertificateModel:
    """Return a certificate that meets whatever can be met."""
    made = example.certificate()
    made["clean"].update(
        score=1.0, correct=50, quantised_score=1.0, quantised_correct=50, per_class=None
    )
    made["converters"], made["converters_reason"] = None, "none"
    made["worst_found"].update(score=1.0, correct=50, confusion=[[25, 0, 0], [0, 25, 0]])
    made["monte_carlo"].update(min=1.0, max=1.0, mean=1.0)
    made["certified"].update(score=1.0, correct=50, reason=None)
    rows = [
        {
            **made["evaluation_set"]["intervals"][0],
            "name": name,
            "score": 1.0,
            "low": 0.99,
            "high": 1.0,
        }
        for name in ("quantised", "worst_found", "certified")
    ]
    made["evaluation_set"]["intervals"] = rows
    return CertificateModel.model_validate(made)


PERFECT = perfect()
TRIALS = TrialTable(np.arange(2000), np.ones(2000), np.full(2000, 50), 50, 0, "accuracy", True)
_ASKS = st.sampled_from(
    [{"certified_accuracy": 0.9}, {"kpp": {"k": 1.0, "confidence": 0.95, "accuracy": 0.9}}]
)
_LITTLE = st.floats(0, 1 / 50)
_NOTHING = st.one_of(
    st.sampled_from(["clean_accuracy", "worst_found_accuracy", "certified_accuracy"]).flatmap(
        lambda kind: st.fixed_dictionaries({kind: _LITTLE})
    ),
    st.fixed_dictionaries(
        {"kpp": st.fixed_dictionaries({"k": st.floats(0.5, 99.5), "accuracy": _LITTLE})}
    ),
    st.floats(0.02, 0.98).map(
        lambda share: {"kpp": {"k": 100 * share, "confidence": 0.99 * share, "accuracy": 0.9}}
    ),
    st.floats(0.01, 0.49).map(
        lambda confidence: {"kpp": {"k": 1.0, "confidence": confidence, "accuracy": 0.9}}
    ),
    st.floats(1, 100).map(lambda cost: {"cost": cost}),
    st.just({"safety_class": {"label": 0, "recall": 0.0}}),
)


def test_the_certificate_of_these_tests_passes_what_asks_for_something():
    for kind in ({"certified_accuracy": 0.9}, {"kpp": {"k": 1.0, "accuracy": 0.9}}):
        assert judge(
            PERFECT, Policy.model_validate({"require": [{"id": "a", **kind}]}), TRIALS
        ).word.startswith("PASS")


@given(_ASKS, _NOTHING, st.sampled_from(["these", "beyond"]))
@settings(max_examples=100, deadline=None)
def test_no_requirement_that_asks_for_nothing_lets_a_network_pass(asks, nothing, samples):
    alone = Policy.model_validate({"require": [{"id": "b", "samples": samples, **nothing}]})
    beside = Policy.model_validate(
        {"require": [{"id": "a", **asks}, {"id": "b", "samples": samples, **nothing}]}
    )
    for policy in (alone, beside):
        verdict = judge(PERFECT, policy, TRIALS)
        assert verdict.word == "INCONCLUSIVE"
        assert "asks for nothing" in verdict.requirements[-1].sentence
