"""The report in a real browser: nothing fetched, nothing logged, numbers as in the JSON, readable
narrow, dark and on paper.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

from cimrobust.certificate.models.retrained import Retraining
from cimrobust.report.render import render_retraining

CHROMIUM = "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser at {CHROMIUM}")

_spec = importlib.util.spec_from_file_location(
    "retraining_example", Path(__file__).parents[1] / "unit" / "report" / "retraining_example.py"
)
retraining = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(retraining)


def opened(browser, report: Path, **options):
    page = browser.new_page(**options)
    page.seen = []
    page.on("console", lambda message: page.seen.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: page.seen.append(f"error: {error}"))
    page.on("request", lambda request: page.seen.append(f"request: {request.url}"))
    page.goto((report / "certificate.html").as_uri())
    return page


def test_nothing_is_logged_or_fetched(browser, report):
    page = opened(browser, report)
    assert page.seen == [f"request: {(report / 'certificate.html').as_uri()}"]


def test_numbers_equal_the_json(browser, report):
    certificate = json.loads((report / "certificate.json").read_text())
    page = opened(browser, report)
    shown = page.eval_on_selector_all(
        "[data-json-path]",
        "nodes => nodes.map(n => [n.dataset.jsonPath, n.getAttribute('value'), n.textContent])",
    )
    assert len(shown) > 100
    for path, value, text in shown:
        expected = certificate
        for part in path.split("."):
            expected = expected[int(part)] if isinstance(expected, list) else expected[part]
        if expected is None:
            assert (value, text) == ("", "none")
            continue
        assert float(value) == expected, path
        number, _, unit = text.replace("\u202f", "").partition("\u00a0")
        exact = 100 * expected if unit in ("%", "points") else expected
        # Half a unit of the last digit shown, four of them at least, and what float64 makes of it:
        # 1.45 is shown as 1.4, which is further from it than 0.05.
        assert float(number) == pytest.approx(exact, rel=5e-4, abs=0.05 + 1e-9), path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_page_never_scrolls_sideways(browser, report, tmp_path, scheme, width):
    page = opened(browser, report, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    folder = Path(os.environ.get("CIMROBUST_SCREENSHOTS", tmp_path))
    page.screenshot(path=folder / f"report-{scheme}-{width}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_paper(browser, report, scheme):
    page = opened(browser, report, color_scheme=scheme)
    ratios = page.evaluate(
        """() => {
          const light = c => { const v = c.map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
                               return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
          const rgb = text => text.match(/\\d+/g).slice(0, 3).map(Number);
          const paper = light(rgb(getComputedStyle(document.documentElement).backgroundColor));
          return ['body', '.lead', '.verdict h2', '.status', 'td', 'figcaption', '.default'].map(s => document.querySelector(s)).filter(Boolean)
            .map(n => { const ink = light(rgb(getComputedStyle(n).color)); return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05); }); }"""  # noqa: E501
    )
    assert min(ratios) >= 4.5


def test_prints_on_a4(browser, report):
    page = opened(browser, report)
    document = page.pdf(prefer_css_page_size=True)
    assert document.startswith(b"%PDF")
    assert b"/MediaBox [0 0 594.95996 841.91998]" in document or b"/MediaBox [0 0 595" in document
    page.emulate_media(media="print")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('thead')).display")
        == "table-header-group"
    )


def test_headings_and_landmarks(browser, report):
    page = opened(browser, report)
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1
    assert page.locator("svg[role=img]").count() >= 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_report_of_a_re_training_never_scrolls_sideways(browser, tmp_path, scheme, width):
    (tmp_path / "certificate.html").write_text(
        render_retraining(
            Retraining.model_validate(retraining.description(layers=retraining.layers(12)))
        )
    )
    page = opened(browser, tmp_path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.seen == [f"request: {(tmp_path / 'certificate.html').as_uri()}"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg[role=img]").count() == 3
