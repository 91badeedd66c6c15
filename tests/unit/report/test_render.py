"""The report: a pure function of the JSON, whatever names are in it."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.report import render as rendering

_spec = importlib.util.spec_from_file_location(
    "report_example", Path(__file__).with_name("example.py")
)
example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example)


class Elements(HTMLParser):
    """Collects elements, numbers with their paths, and identifiers."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.numbers: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if "data-json-path" in attributes:
            self.numbers.append((attributes["data-json-path"], attributes["value"]))


def render(certificate: dict) -> str:
    return rendering.render(CertificateModel.model_validate(certificate))


@cache
def charts_of_the_example() -> dict[str, str]:
    """The charts of the example, drawn once for all pages that tests read the words of."""
    return rendering.draw(CertificateModel.model_validate(example.certificate()))


def worded(certificate: dict) -> str:
    """The page with the charts of the example."""
    return rendering.render(
        CertificateModel.model_validate(certificate), pictures=charts_of_the_example()
    )


def at(certificate, path: str):
    value = certificate
    for part in path.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def test_the_example_follows_the_schema():
    jsonschema.validate(example.certificate(), CertificateModel.published_schema())


def test_same_certificate_same_bytes():
    assert render(example.certificate()) == render(copy.deepcopy(example.certificate()))


def test_every_number_is_that_of_the_json():
    certificate = example.certificate()
    numbers = Elements(worded(certificate)).numbers
    assert len(numbers) > 60
    for path, value in numbers:
        expected = at(certificate, path)
        assert value == ("" if expected is None else repr(expected)), path


def test_hostile_names_stay_text():
    page = worded(example.certificate())
    assert "<script>alert" not in page
    assert Elements(page).tags.count("script") == 1
    assert "&lt;script&gt;alert(1)" in page


def test_embedded_json_is_the_certificate():
    certificate = example.certificate()
    text = re.search(
        r'<script type="application/json" id="certificate">(.*?)</script>',
        worded(certificate),
        re.DOTALL,
    ).group(1)
    assert json.loads(text) == CertificateModel.model_validate(certificate).model_dump()


def test_nothing_is_fetched_and_identifiers_are_unique():
    page = worded(example.certificate())
    assert "default-src 'none'" in page
    # Names of the SVG and XLink standards are no addresses that anything is fetched from.
    outside = [
        url for url in re.findall(r'(?:https?:)?//[^"\' <)]+', page) if "www.w3.org" not in url
    ]
    assert outside == []
    elements = Elements(page)
    assert len(elements.ids) == len(set(elements.ids))
    assert len(page.encode()) < 300_000


@pytest.mark.parametrize("word", ["PASS_CERTIFIED", "PASS_STATISTICAL", "FAIL", "INCONCLUSIVE"])
def test_every_verdict_is_said_in_words(word):
    page = worded(
        example.certificate(verdict={"word": word, "sentence": "So.", "requirements": []})
    )
    assert word.replace("_", " ") in page


def test_regressions_show_errors_not_percentages():
    base = example.certificate()
    regression = example.certificate(
        metric={
            "name": "rmse",
            "higher_is_better": False,
            "unit": "target unit",
            "description": "error",
        },
        clean={
            **base["clean"],
            "score": 31.9,
            "correct": None,
            "quantised_correct": None,
            "per_class": None,
            "per_class_reason": "a regression has no classes",
        },
        worst_found={
            **base["worst_found"],
            "score": 1985.0,
            "correct": None,
            "confusion": None,
            "confusion_reason": "a regression has no classes",
        },
    )
    page = render(regression)
    assert "1985" in page
    assert "a regression has no classes" in page
    assert "at or above" in page


def test_largest_tolerances_are_drawn_and_listed():
    certificate = example.certificate()
    certificate["certified"] |= {
        "score": 0.5,
        "reason": None,
        "correct": 25,
        "method": "Bounds.",
        "curve_samples": 8,
        "largest_tolerance_reason": None,
        "curve": [{"box_size": 1.0, "tolerance_fraction": 0.03, "score": 0.5, "correct": 4}],
        "largest_tolerance": {
            "samples": 8,
            "uncertified": 2,
            "smallest_tried": 0.015,
            "largest_tried": 0.06,
            "steps_per_octave": 4,
            "held": [
                {"share": 0.9, "tolerance_fraction": None},
                {"share": 0.5, "tolerance_fraction": 0.0425},
            ],
            "histogram": {"edges": [0.015, 0.03, 0.06], "counts": [2, 4]},
        },
    }
    jsonschema.validate(certificate, CertificateModel.published_schema())
    page = render(certificate)
    assert (
        "8 samples by the largest tolerance at which they are certified; 2 are at none that was"
        " tried." in page
    )
    assert ("certified.largest_tolerance.held.1.tolerance_fraction", "0.0425") in Elements(
        page
    ).numbers
    assert "none tried" in page


def test_the_course_of_the_search_is_told_or_its_absence_explained():
    certificate = example.certificate()
    assert ("worst_found.effort_curve.near.passes", "30") in Elements(worded(certificate)).numbers
    certificate["worst_found"] |= {
        "effort_curve": None,
        "effort_curve_reason": "no pattern was found",
    }
    assert "Course of the search: no pattern was found." in worded(certificate)


def test_item_policy_and_day_of_issue_are_shown():
    item = {
        "name": example.HOSTILE,
        "version": "2.1",
        "intended_use": [],
        "operational_domain": ["Roads."],
        "hazards": ["H1", example.HOSTILE],
        "safety_goals": [],
        "owner": [],
    }
    certificate = example.certificate(
        issued="2026-11-29",
        item=item,
        item_reason=None,
        policy_file=f"{example.HOSTILE}.toml",
        policy_sha256="ab" * 32,
    )
    jsonschema.validate(certificate, CertificateModel.published_schema())
    page = worded(certificate)
    assert "Issued 2026-11-29" in page
    assert "What the network is part of" in page
    assert f"sha256 <code>{'ab' * 32}</code>" in page
    assert example.HOSTILE not in page
    assert "Intended use" not in page
