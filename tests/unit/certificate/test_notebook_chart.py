"""The main chart as notebooks show it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

import cimrobust
from cimrobust.certificate.bracket import bracket_rows
from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.notebook_chart import _COLOURS, bracket_svg

REPORTS = Path(__file__).parents[3] / "reports"
SVG = "{http://www.w3.org/2000/svg}"


def record(name: str) -> CertificateModel:
    return cimrobust.Certificate.read(REPORTS / name).record


def centres(picture: ElementTree.Element, colour: str) -> list[float]:
    """Return where marks of a colour are, in units of the picture."""
    circles = [
        float(mark.attrib["cx"])
        for mark in picture.iter(f"{SVG}circle")
        if mark.attrib["fill"] == colour
    ]
    squares = [
        float(mark.attrib["x"]) + float(mark.attrib["width"]) / 2
        for mark in picture.iter(f"{SVG}rect")
        if mark.attrib["fill"] == colour
    ]
    return circles + squares


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("paper", ["#ffffff", "#111111"])
def test_every_mark_stands_out_from_light_and_dark_paper(paper: str) -> None:
    for colour in (colour for colour in _COLOURS.values() if colour != "currentColor"):
        lighter, darker = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour


def test_marks_lie_where_their_scores_are() -> None:
    certificate = record("breast_cancer_mlp")
    picture = ElementTree.fromstring(bracket_svg(certificate))
    for row in bracket_rows(certificate):
        if row.kind != "worst":
            assert row.value is not None
            wanted = 140 + 360 * row.value
            found = centres(picture, _COLOURS[row.kind])
            assert min(abs(place - wanted) for place in found) < 0.1, row.label


def test_what_is_not_proven_has_no_mark() -> None:
    certificate = record("digits_cnn")
    picture = ElementTree.fromstring(bracket_svg(certificate))
    assert "not proven" in [text.text for text in picture.iter(f"{SVG}text")]
    assert not list(picture.iter(f"{SVG}rect"))


def test_errors_have_an_axis_of_their_own() -> None:
    certificate = record("breast_cancer_mlp")
    metric = certificate.metric.model_copy(update={"name": "rmse", "unit": "target"})
    scores = certificate.worst_found.model_copy(update={"score": 1988.0})
    other = certificate.model_copy(update={"metric": metric, "worst_found": scores})
    texts = [text.text for text in ElementTree.fromstring(bracket_svg(other)).iter(f"{SVG}text")]
    assert "1988" in texts
    assert texts[-1] == "rmse"
    assert "100 %" not in texts


def test_a_notebook_shows_it_below_the_numbers() -> None:
    certificate = cimrobust.Certificate.read(REPORTS / "digits_cnn")
    html = certificate._repr_html_()
    assert bracket_svg(certificate.record) in html
    assert html.index("</table>") < html.index("<svg")
    assert len(bracket_svg(certificate.record)) < 4000
