"""The report of a sweep: a pure function of the JSON, whatever names are in it."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import jsonschema
import pytest

from cimrobust.certificate.models.swept import SweepModel
from cimrobust.report import sweep_page as rendering
from tests.unit.report.test_render import Elements, at

_spec = importlib.util.spec_from_file_location(
    "report_example", Path(__file__).with_name("example.py")
)
example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example)
HOSTILE = example.HOSTILE


def render_sweep(made: dict) -> str:
    return rendering.render_sweep(SweepModel.model_validate(made))


def point(tolerance: float, worst: float, certified: float | None) -> dict:
    kpp = [
        {
            "k": k,
            "score": 0.93,
            "lower_bound": None if k == 1 else 0.92,
            "confidence": 0.95,
            "needed_trials": 299,
        }
        for k in (1.0, 5.0, 10.0)
    ]
    return {
        "tolerance": tolerance,
        "worst_found": {
            "score": worst,
            "correct": int(50 * worst),
            "file_score": worst,
            "member": HOSTILE,
            "passes": 90,
            "evaluations": 40,
            "has_twin": True,
            "members": [
                {"name": HOSTILE, "score": worst, "correct": int(50 * worst), "passes": 32}
            ],
            "replay_note": HOSTILE,
            "witness": {HOSTILE: "ef" * 32},
        },
        "monte_carlo": {
            "trials": 20,
            "mean": 0.95,
            "std": 0.01,
            "min": 0.9,
            "max": 0.97,
            "kpp": kpp,
        },
        "certified": {
            "score": certified,
            "correct": None,
            "not_tried": 0,
            "reason": None if certified is not None else HOSTILE,
        },
    }


def sweep(**changes) -> dict:
    base = example.certificate()
    for key in ("profile_sha256", "devices_outside", "chip_inside_probability"):  # sweeps have none
        del base["device"][key]
    claim = {
        "tolerance": 0.01,
        "fails_at": 0.012,
        "reason": None,
        "tried": [0.012],
        "statement": HOSTILE,
    }
    none = {
        "tolerance": None,
        "fails_at": None,
        "reason": HOSTILE,
        "tried": [],
        "statement": HOSTILE,
    }
    made = {
        "schema_version": "1.3",
        **{
            key: base[key]
            for key in (
                "tool",
                "machine",
                "machine_reason",
                "metric",
                "model",
                "data",
                "device",
                "settings",
                "timings",
            )
        },
        "effort": "quick",
        "clean": {"score": 0.96, "quantised_score": 0.94, "samples": 50},
        "points": [point(0.001, 0.94, 0.9), point(0.03, 0.1, None)],
        "safe": {
            "required": 0.9,
            "unrefuted": claim,
            "certified": none,
            "statistical": {
                **claim,
                "k": 1.0,
                "confidence": 0.95,
                "fresh_trials": 368,
                "test_confidence": 0.975,
            },
        },
        "safe_reason": None,
        "not_covered": [HOSTILE],
        "warnings": [HOSTILE],
        "command": HOSTILE,
    }
    return {**made, **changes}


@pytest.mark.parametrize(
    "changes", [{}, {"safe": None, "safe_reason": HOSTILE}, {"points": [point(0.01, 0.5, None)]}]
)
def test_page_of_any_sweep(changes):
    made = sweep(**changes)
    jsonschema.validate(made, SweepModel.published_schema())
    page = render_sweep(made)
    assert 'content: "cimrobust tolerance sweep"' in page
    assert page == render_sweep(copy.deepcopy(made))
    elements = Elements(page)
    assert elements.tags.count("script") == 1, "the embedded JSON alone"
    assert len(elements.ids) == len(set(elements.ids))
    assert len(elements.numbers) > 10
    for path, value in elements.numbers:
        expected = at(made, path)
        assert value == ("" if expected is None else repr(expected)), path
