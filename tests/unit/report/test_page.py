"""What stands on the page of a certificate beside its tables: identity, contents, what is proven,
costs, remedies, changes.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import re
from pathlib import Path

import pytest

from cimrobust.certificate.certificate_files import canonical_json
from cimrobust.certificate.models import CertificateModel
from cimrobust.report import argument, contents, failure_modes
from cimrobust.report import comparison_view as comparison
from cimrobust.report import render as rendering
from cimrobust.report.headline import headlines
from cimrobust.report.numbers import shown
from cimrobust.report.page_identity import css_text, of_certificate
from cimrobust.report.remedies import remedies
from cimrobust.report.uncertainty_budget import uncertainties
from tests.unit.report.test_render import Elements, at, charts_of_the_example

_spec = importlib.util.spec_from_file_location(
    "page_example", Path(__file__).with_name("example.py")
)
example = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(example)
COSTS = {"require": {"worst_found_accuracy": 0.8}, "cost": {"matrix": [[0, 20], [1, 0]]}}
ROW = {
    "id": "SR-001",
    "text": "No chip is worse",
    "status": "refuted",
    "sentence": "One is.",
    "threshold": 0.8,
    "found": 0.1,
    "margin": -0.7,
    "evidence": "searched",
    "samples": "these",
}


def certificate(**changes) -> CertificateModel:
    return CertificateModel.model_validate(example.certificate(**changes))


def render(certificate: CertificateModel, previous: CertificateModel | None = None) -> str:
    """The page with the charts of the example, which these tests do not read."""
    return rendering.render(certificate, previous, pictures=charts_of_the_example())


def judged(*rows: dict) -> CertificateModel:
    return certificate(
        policy=COSTS,
        policy_reason=None,
        verdict={
            "word": "FAIL",
            "sentence": "Refuted: SR-001.",
            "requirements": list(rows or (ROW,)),
        },
    )


def certified(score: float, **metric) -> CertificateModel:
    plain = example.certificate()
    plain["certified"] |= {"score": score, "reason": None, "method": "Bounds.", "correct": None}
    plain["metric"] |= metric
    return CertificateModel.model_validate(plain)


def test_the_document_id_is_the_digest_of_the_file():
    made = certificate()
    digest = hashlib.sha256(canonical_json(made).encode()).hexdigest()
    page = render(made)
    assert of_certificate(made).sha256 == digest
    assert f"Document <code>{digest[:12]}</code>" in page
    assert f'content: "Document {digest[:12]}"' in page
    assert '"page " counter(page) " of " counter(pages)' in page


@pytest.mark.parametrize(("issued", "state"), [(None, "draft"), ("2026-11-29", "issued")])
def test_a_certificate_without_a_day_of_issue_is_a_draft(issued, state):
    assert of_certificate(certificate(issued=issued)).state == state


def test_no_text_ends_a_css_string():
    escaped = css_text("\"; } </style> \\ 'ü'")
    assert not set('"\\<>{};') - set("\\") & set(re.sub(r"\\[0-9a-f]+ ", "", escaped))


def test_contents_list_what_is_there_and_its_opposite_the_rest():
    made = certificate()
    there = contents.sections(made, has_change=False)
    assert [section.number for section in there.values()] == list(range(1, len(there) + 1))
    assert "certified" not in there
    assert ("not computed", ["certified bound"]) in contents.left_out(made)
    assert "change" in contents.sections(made, has_change=True)
    page = render(made)
    assert all(f'id="{name}"' in page and f'href="#{name}"' in page for name in there)


@pytest.mark.parametrize(
    ("score", "metric", "path"),
    [
        (0.5, {}, "certified.score"),
        (0.0, {}, None),
        (6098.0, {"name": "rmse", "higher_is_better": False, "unit": "target unit"}, None),
        (
            31.0,
            {"name": "rmse", "higher_is_better": False, "unit": "target unit"},
            "certified.score",
        ),
    ],
)
def test_what_proves_nothing_is_not_shown_as_a_proof(score, metric, path):
    made = certified(score, **metric)
    assert headlines(made)[-1].path == path
    assert ("not proven" in headlines(made)[-1].known) is (path is None)


def test_every_path_of_the_page_leads_somewhere():
    plain = example.certificate()
    made = CertificateModel.model_validate(plain)
    paths = [path for row in headlines(made) for path in (row.path, row.low, row.high) if path]
    paths += [path for row in uncertainties(made) for path in row.paths]
    paths += [path for row in remedies(made) for path, _ in row.paths]
    assert len(paths) > 15
    assert all(isinstance(at(plain, path), int | float) for path in paths)


def test_requirements_stand_on_the_first_screen_with_numbers_and_strength():
    page = render(judged())
    verdict = page[page.index('class="verdict') : page.index("</section>")]
    assert "SR-001" in verdict
    numbers = Elements(page).numbers
    assert ("verdict.requirements.0.margin", "-0.7") in numbers
    assert "-70.00\u00a0points" in verdict
    assert "searched, these samples" in verdict


def test_conditions_are_counted_apart():
    row = {
        **ROW,
        "id": "condition: effort",
        "status": "met",
        "threshold": None,
        "found": None,
        "margin": None,
        "evidence": None,
        "samples": None,
    }
    made = judged(ROW, row)
    assert [step.row.id for step in argument.steps(made)] == ["SR-001"]
    assert "1 of 1 hold" in render(made)


def test_decisions_are_ordered_by_what_they_cost():
    made = judged()
    rows = failure_modes.transitions(made)
    assert [(row.label, row.decision, row.total) for row in rows] == [
        ("0", "1", 460.0),
        ("1", "0", 22.0),
    ]
    assert failure_modes.collapse(made) == ("1", 23, 45)
    assert "Cost of all" in render(made)


def test_a_class_that_swallows_the_others_is_named():
    made = judged()
    worst = made.worst_found.model_copy(update={"confusion": [[2, 23, 0], [0, 25, 0]]})
    made = made.model_copy(update={"worst_found": worst})
    assert failure_modes.collapse(made) == ("1", 23, 23)
    assert "23 of 23 wrong decisions are for class 1" in render(made)


def test_remedies_name_the_command_that_tries_them():
    plain = example.certificate(
        reproduce={
            "command": "cimrobust analyze m.onnx --data d.toml --device p --out out",
            "python": "",
            "witness_check": "",
        }
    )
    plain |= {
        "policy": COSTS,
        "policy_reason": None,
        "policy_file": "p.toml",
        "policy_sha256": "ab" * 32,
    }
    plain["verdict"] = {"word": "FAIL", "sentence": "Refuted.", "requirements": [ROW]}
    commands = [row.command for row in remedies(CertificateModel.model_validate(plain))]
    assert (
        "cimrobust analyze m.onnx --data d.toml --device p --out out --tolerance 0.015" in commands
    )
    assert "cimrobust suggest m.onnx --data d.toml --device p --policy p.toml" in commands


def test_an_earlier_certificate_is_set_beside():
    before = example.certificate()
    before["worst_found"]["score"] = 0.3
    found = comparison.change(judged(), CertificateModel.model_validate(before))
    worst = next(row for row in found.numbers if row.name == "Worst chip found")
    assert (worst.before, worst.now, worst.change) == (
        "30.00 %",
        "10.00 %",
        "-20.00 percentage points",
    )
    assert "network" in found.same
    assert "policy" in found.other
    assert found.requirements == (("SR-001", "not asked", "refuted"),)
    page = render(judged(), CertificateModel.model_validate(before))
    assert 'id="change"' in page
    assert page != render(judged())


def test_inputs_that_flip_are_pictures_lines_or_rows():
    plain = example.certificate()
    assert "-1.0, 2.0, 3.25" in render(CertificateModel.model_validate(plain))
    image = copy.deepcopy(plain)
    image["worst_found"]["flipped"] |= {
        "form": "image",
        "shape": [1, 4, 4],
        "shown_shape": [4, 4, 1],
    }
    for row in image["worst_found"]["flipped"]["rows"]:
        row |= {"picture": "iVBORw0KGgo=", "values": None}
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in render(
        CertificateModel.model_validate(image)
    )
    signal = copy.deepcopy(plain)
    signal["worst_found"]["flipped"] |= {"form": "signal"}
    assert "<polyline points=" in render(CertificateModel.model_validate(signal))


def test_without_write_verify_the_header_counts_devices_outside():
    plain = example.certificate()
    plain["device"] |= {
        "excluded_probability": 0.0027,
        "devices_outside": 16.1,
        "chip_inside_probability": 1e-7,
    }
    page = render(CertificateModel.model_validate(plain))
    assert ("device.devices_outside", "16.1") in Elements(page).numbers
    assert "every one within" not in page


def test_agreement_with_a_network_is_not_called_accuracy():
    plain = example.certificate()
    plain["data"] |= {"label_source": "self"}
    assert (
        "agreement with its own clean decisions"
        in render(CertificateModel.model_validate(plain)).lower()
    )


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.0968, "score", "9.68\u00a0%"),
        (0.00042, "fine_percent", "0.042\u00a0%"),
        (0.035, "margin", "+3.50\u00a0points"),
        (57.5719, "plain", "57.57"),
    ],
)
def test_numbers_have_one_notation(value, kind, text):
    assert shown(value, kind, is_fraction=True) == text
    assert shown(6098.19, "score", is_fraction=False) == "6098"
