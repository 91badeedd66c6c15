"""Which diagnostics run, and what is said of those that do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.attack.diagnosis_protocol import Diagnostic, Finding
from cimrobust.certificate.models import Diagnostics
from cimrobust.diagnose import run_diagnostics as running
from cimrobust.diagnose.diagnostic_names import NAMES, NOT_CHOSEN, OPTIONAL, chosen
from cimrobust.diagnose.run_diagnostics import DIAGNOSTICS, diagnose
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import SearchResult


def test_every_diagnostic_has_a_field():
    names = {diagnostic.name for diagnostic in DIAGNOSTICS}
    assert {
        name for name in Diagnostics.model_fields if f"{name}_reason" in Diagnostics.model_fields
    } == names


@pytest.mark.parametrize(
    ("effort", "runs"), [("quick", False), ("standard", True), ("thorough", True)]
)
def test_what_runs_if_nothing_is_said(effort, runs):
    assert bool(chosen(None, effort=effort)) is runs
    assert chosen("none", effort=effort) == ()
    assert chosen("layers", effort=effort) == ("layers",)


def test_an_unknown_diagnostic_is_named():
    with pytest.raises(UsageError, match=r"got 'layer' .*--diagnostics"):
        chosen("layers,layer", effort="quick")


def test_one_that_cannot_run_says_why(small, monkeypatch):
    subject, run = Subject(*small), Run(effort="quick")
    found = search(subject, run)

    def gives_up(request):
        raise RuntimeError("out of luck")

    fake = (
        Diagnostic("a", "A", gives_up, applies=lambda request: "it makes no sense here"),
        Diagnostic("b", "B", gives_up),
        Diagnostic("c", "C", gives_up),
    )
    monkeypatch.setattr(running, "DIAGNOSTICS", fake)
    outcomes = diagnose(subject, run, found, ["a", "b"]).outcomes
    assert [outcome.reason for outcome in outcomes] == [
        "it makes no sense here",
        "gave up: out of luck",
        NOT_CHOSEN,
    ]


def test_a_worse_pattern_of_a_diagnostic_becomes_the_witness(small, monkeypatch):
    subject, run = Subject(*small), Run(effort="quick")
    runtime, found = subject.runtime, search(subject, run)
    nothing = {name: np.zeros_like(pattern) for name, pattern in found.deviations.items()}
    blunt: SearchResult = replace(
        found, score=runtime.nominal, engine_score=runtime.nominal, deviations=nothing
    )
    lucky = Diagnostic(
        "lucky",
        "Lucky",
        lambda request: Finding(None, 3, 1, {"luck": dict(found.deviations)}),
    )
    monkeypatch.setattr(running, "DIAGNOSTICS", (lucky,))
    diagnosis = diagnose(subject, run, blunt, ["lucky"])
    assert diagnosis.found.score == found.score
    assert diagnosis.found.member == "diagnostic_lucky"
    assert diagnosis.found.members[-1].score == found.score
    assert diagnosis.broken.sum() == runtime.nominal.num_samples - found.score.count


def test_what_may_be_chosen_is_what_there_is():
    assert tuple(row.name for row in DIAGNOSTICS) == NAMES
    assert tuple(row.name for row in DIAGNOSTICS if row.is_optional) == OPTIONAL
