"""The short summary of a certificate on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click


def print_summary(certificate: Mapping[str, Any], *, directory: str, as_json: bool) -> None:
    """Print what a certificate says, for people or for machines."""
    summary = summarise(certificate, directory=directory)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    for label, text in _lines(certificate):
        click.echo(f"{label:<22}{text}")
    for warning in certificate["warnings"]:
        click.echo(f"{'warning':<22}{warning}")
    click.echo(f"{'certificate':<22}{summary['html']}")


def summarise(certificate: Mapping[str, Any], *, directory: str) -> dict[str, Any]:
    """Return the numbers that a pipeline wants, in one flat mapping.

    Args:
        certificate: A certificate as in certificate.json.
        directory: Where its files are.
    """
    kpp = [{key: entry[key] for key in ("k", "score", "lower_bound", "confidence")} for entry in certificate["monte_carlo"]["kpp"]]
    return {
        "verdict": certificate["verdict"]["word"],
        "metric": certificate["metric"]["name"],
        "clean": certificate["clean"]["score"],
        "quantised": certificate["clean"]["quantised_score"],
        "mean": certificate["monte_carlo"]["mean"],
        "kpp": kpp,
        "worst_found": certificate["worst_found"]["score"],
        "certified": certificate["certified"]["score"],
        "safety_class": _safety(certificate),
        "certificate": f"{directory}/certificate.json",
        "html": f"{directory}/certificate.html",
        "witness": f"{directory}/witness/worst_case.onnx",
        "warnings": list(certificate["warnings"]),
    }


def _lines(certificate: Mapping[str, Any]) -> list[tuple[str, str]]:
    metric = certificate["metric"]["name"]
    trials = certificate["monte_carlo"]
    clean = certificate["clean"]
    lines = [
        ("verdict", str(certificate["verdict"]["word"])),
        (f"clean {metric}", f"{_number(clean['score'])} float, {_number(clean['quantised_score'])} quantised"),
        ("average chip", f"{_number(trials['mean'])} over {trials['trials']} drawn chips"),
    ]
    for entry in trials["kpp"]:
        bound = "no bound yet" if entry["lower_bound"] is None else f"bound {_number(entry['lower_bound'])}"
        if entry["two_source"] is not None:
            bound += f", {_number(entry['two_source']['bound'])} beyond these samples"
        lines.append((f"KPP {entry['k']:g} %", f"{_number(entry['score'])} ({bound} at {100 * entry['confidence']:g} % confidence)"))
    lines.append(("worst chip found", _number(certificate["worst_found"]["score"])))
    safety = _safety(certificate)
    if safety is not None:
        lines.append((f"safety class {safety['label']}", f"recall {_number(safety['recall'])} on the worst chip found for it"))
    certified = certificate["certified"]
    lines.append(("certified", _number(certified["score"]) if certified["score"] is not None else f"none: {certified['reason']}"))
    return lines


def _safety(certificate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the recall of the safety class; None where none was named."""
    found = (certificate["diagnostics"] or {}).get("safety_class")
    return None if found is None else {key: found[key] for key in ("label", "recall", "correct", "samples")}


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
