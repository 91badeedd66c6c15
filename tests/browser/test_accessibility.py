"""Pages against WCAG 2.2 AA, by axe: wide and narrow, light and dark, with forced colours; and
their size and length on paper.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.models.swept import SweepModel
from cimrobust.report.render import render_retraining
from cimrobust.report.sweep_page import render_sweep

CHROMIUM = "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser at {CHROMIUM}")
WIDTHS = (390, 768, 1280)
# Kilobytes are of a thousand bytes.
MOST_BYTES = 300_000
MOST_PAGES = 12


def _example(name: str):
    spec = importlib.util.spec_from_file_location(
        name, Path(__file__).parents[1] / "unit" / "report" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def violations(browser, page_file: Path, *, width: int, **options) -> list[str]:
    """Return what axe finds wrong with a page, all its rules."""
    axe = pytest.importorskip("axe_playwright_python")
    script = (Path(axe.__file__).parent / "axe.min.js").read_text()
    context = browser.new_context(
        bypass_csp=True, viewport={"width": width, "height": 900}, **options
    )
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.evaluate(script)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    context.close()
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_certificate_breaks_no_rule(browser, report, width, scheme):
    assert violations(browser, report / "certificate.html", width=width, color_scheme=scheme) == []


def test_a_certificate_breaks_no_rule_in_forced_colours(browser, report):
    assert (
        violations(browser, report / "certificate.html", width=1280, forced_colors="active") == []
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_re_trainings_and_sweeps_break_no_rule(browser, tmp_path, width):
    described = _example("retraining_example").description()
    (tmp_path / "retrain.html").write_text(render_retraining(Retraining.model_validate(described)))
    swept = _example("test_sweep").sweep()
    (tmp_path / "sweep.html").write_text(render_sweep(SweepModel.model_validate(swept)))
    assert violations(browser, tmp_path / "retrain.html", width=width) == []
    assert violations(browser, tmp_path / "sweep.html", width=width, color_scheme="dark") == []


def test_what_scrolls_can_be_reached_by_keyboard(browser, report):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto((report / "certificate.html").as_uri())
    unreachable = page.evaluate(
        """() => [...document.querySelectorAll('main *')].filter(node => node.scrollWidth > node.clientWidth + 1
             && ['auto', 'scroll'].includes(getComputedStyle(node).overflowX) && (node.tabIndex < 0 || !node.ariaLabel)).length"""  # noqa: E501
    )
    assert unreachable == 0


def test_every_table_and_chart_has_a_name(browser, report):
    page = browser.new_page()
    page.goto((report / "certificate.html").as_uri())
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("svg[role=img]:not(:has(title)):not([aria-label])").count() == 0
    titles = page.locator("figure svg > title").all_text_contents()
    assert all(re.search(r"\d|not proven", title) for title in titles), titles


def test_contents_lead_to_every_section(browser, report):
    page = browser.new_page()
    page.goto((report / "certificate.html").as_uri())
    targets = page.eval_on_selector_all(
        "a[href^='#']", "nodes => nodes.map(n => n.getAttribute('href').slice(1))"
    )
    ids = page.eval_on_selector_all("[id]", "nodes => nodes.map(n => n.id)")
    assert set(targets) <= set(ids)
    assert len(page.locator("nav.contents a").all()) > 10


@pytest.mark.slow
def test_a_whole_certificate_is_small_and_short(browser, whole_report):
    page_file = whole_report / "certificate.html"
    assert len(page_file.read_bytes()) <= MOST_BYTES
    page = browser.new_page()
    page.goto(page_file.as_uri())
    document = page.pdf(prefer_css_page_size=True)
    assert 5 < len(re.findall(rb"/Type\s*/Page\b(?!s)", document)) <= MOST_PAGES
