"""The report of a certificate: one HTML file, a pure function of the JSON."""

from __future__ import annotations

import json
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.report import charts, diagnostic_charts, side_by_side
from cimrobust.report.numbers import field_reader

_MOST_LAYERS_CHARTED = 60


def render(certificate: CertificateModel) -> str:
    """Return certificate.html.

    Args:
        certificate: What was found.

    Returns:
        A page that needs no network and no script; the same certificate gives the same text.
    """
    pictures = {
        "bracket": charts.bracket(certificate),
        "histogram": charts.histogram(certificate),
        "largest_tolerance": charts.largest_tolerance(certificate) if certificate.certified.largest_tolerance is not None else "",
        "members": charts.members(certificate) if certificate.worst_found.members else "",
        "effects": charts.effects(certificate) if certificate.diagnostics is not None else "",
        "classes": charts.classes(certificate) if certificate.clean.per_class else "",
        **diagnostic_charts.pictures(certificate),
    }
    page = environment().get_template("certificate.html.j2")
    return page.render(
        c=certificate,
        charts={name: Markup(text) for name, text in pictures.items()},
        field=field_reader(certificate),
        embedded=Markup(embedded(certificate)),
    )


def render_retraining(described: Retraining) -> str:
    """Return retrain.html.

    Args:
        described: What was found.
    """
    columns = [("before", "Before"), ("after", "After")]
    if described.control_outcome is not None:
        columns.insert(1, ("control_outcome", "Control"))
    page = environment().get_template("retrain.html.j2")
    return page.render(
        r=described,
        columns=columns,
        roles=[(key.removesuffix("_outcome"), title) for key, title in columns],
        field=field_reader(described),
        curves=Markup(charts.training_curves(described)),
        charts={name: Markup(text) for name, text in side_by_side.pictures(described).items()},
        certified_apart=described.tolerances is not None and side_by_side.certified_apart(described),
        most_layers=side_by_side.MOST_LAYERS,
    )


def embedded(certificate: BaseModel) -> str:
    """Return a result's JSON in a form that cannot end the element it stands in."""
    text = json.dumps(certificate.model_dump(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (
        text.replace("&", "\\u0026")
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


@cache
def environment() -> Environment:
    """Return where templates come from, everything escaped."""
    return Environment(
        loader=PackageLoader("cimrobust.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
