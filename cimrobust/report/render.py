"""The report of a certificate: one HTML file, a pure function of the JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel

from cimrobust.certificate.drawable_scores import drawable
from cimrobust.certificate.judging import capital
from cimrobust.certificate.wording import bounded_units, is_proof, score_name, score_word
from cimrobust.report import argument, charts, contents, diagnostic_charts, failure_modes
from cimrobust.report import comparison_view as comparison
from cimrobust.report import side_by_side_charts as side_by_side
from cimrobust.report.gain import gain_of
from cimrobust.report.headline import headlines
from cimrobust.report.numbers import field_reader, tidy
from cimrobust.report.page_identity import Identity, css_text, digest_of, of_certificate
from cimrobust.report.remedies import remedies
from cimrobust.report.training_chart import training_curves
from cimrobust.report.uncertainty_budget import uncertainties
from cimrobust.report.visible_text import visible

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.retrained import Retraining


def render(
    certificate: CertificateModel,
    previous: CertificateModel | None = None,
    *,
    pictures: Mapping[str, str] | None = None,
) -> str:
    """Return certificate.html.

    Args:
        certificate: What was found.
        previous: An earlier certificate, which the page compares it with; None: none, and the page
            has no section on changes.
        pictures: What `draw` returns, where that is known already.

    Returns:
        A page that needs no network and no script; the same certificate gives the same text.
    """
    compared = None if previous is None else comparison.change(certificate, previous)
    return page_of(
        "certificate.html.j2",
        c=certificate,
        tool=certificate.tool,
        identity=of_certificate(certificate),
        sections=contents.sections(certificate, has_change=compared is not None),
        left_out=contents.left_out(certificate),
        charts={name: Markup(text) for name, text in (pictures or draw(certificate)).items()},
        field=field_reader(certificate),
        change=compared,
        embedded=Markup(embedded(certificate)),
        **_words(certificate),
        **_findings(certificate),
    )


def draw(certificate: CertificateModel) -> dict[str, str]:
    """Return the charts by name; an empty text for what is not there."""
    certificate = drawable(certificate)
    largest = certificate.certified.largest_tolerance
    return {
        "bracket": charts.bracket(certificate),
        "histogram": charts.histogram(certificate),
        "largest_tolerance": charts.largest_tolerance(certificate) if largest is not None else "",
        "members": charts.members(certificate) if certificate.worst_found.members else "",
        "effects": (
            charts.effects(certificate)
            if certificate.diagnostics is not None and certificate.diagnostics.effects
            else ""
        ),
        "classes": charts.classes(certificate) if certificate.clean.per_class else "",
        **diagnostic_charts.pictures(certificate),
    }


def _words(certificate: CertificateModel) -> dict[str, Any]:
    """Return how scores are called on the page."""
    return {
        "score_name": score_name(certificate),
        "score_word": score_word(certificate),
        "proven": is_proof(certificate),
        "units": bounded_units(certificate),
    }


def _findings(certificate: CertificateModel) -> dict[str, Any]:
    """Return what the sections of the page show that is put together from several blocks."""
    return {
        "headlines": headlines(certificate),
        "argument": argument.steps(certificate),
        "conditions": argument.conditions(certificate),
        "kinds": argument.kinds(certificate),
        "budget": uncertainties(certificate),
        "remedies": remedies(certificate),
        "transitions": failure_modes.transitions(certificate),
        "collapse": failure_modes.collapse(certificate),
        "costs": failure_modes.costs(certificate),
        "names": failure_modes.class_names(certificate),
        "flips_note": failure_modes.shown_part(certificate.worst_found.flipped),
        "line_box": failure_modes.line_box(),
    }


def render_retraining(described: Retraining) -> str:
    """Return retrain.html.

    Args:
        described: What was found.
    """
    columns = [("before", "Before"), ("after", "After")]
    if described.control_outcome is not None:
        columns.insert(1, ("control_outcome", "Control"))
    return page_of(
        "retrain.html.j2",
        r=described,
        tool=described.tool,
        identity=Identity(
            kind="re-training",
            subject=described.model,
            sha256=digest_of(described),
            file="retrain.json",
        ),
        gain=gain_of(described),
        columns=columns,
        roles=[(key.removesuffix("_outcome"), title) for key, title in columns],
        field=field_reader(described),
        curves=Markup(training_curves(described)),
        charts={name: Markup(text) for name, text in side_by_side.pictures(described).items()},
        certified_apart=described.tolerances is not None
        and side_by_side.certified_apart(described),
        most_layers=side_by_side.MOST_LAYERS,
    )


def embedded(certificate: BaseModel) -> str:
    """Return a result's JSON in a form that cannot end the element it stands in."""
    text = json.dumps(
        certificate.model_dump(), ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return (
        text.replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def page_of(template: str, **values: Any) -> str:
    """Return a page: what files say in it is escaped, and shows as it is.

    Args:
        template: Name of its template.
        values: What stands in it, by name.
    """
    return visible(_environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    """Return where templates come from, everything escaped."""
    made = Environment(
        loader=PackageLoader("cimrobust.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        css_text=css_text, line_of=failure_modes.line_of, capitalize_first=capital, tidy=tidy
    )
    return made
