"""`cimrobust sweep`: one network over write-verify tolerances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cimrobust.cli.certificate_summary import printed_score
from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    allow_code_option,
    data_option,
    json_option,
    model_argument,
    out_folder_option,
    progress_option,
)
from cimrobust.cli.setting_options import Numbers, setting_options
from cimrobust.cli.show_page import open_option
from cimrobust.settings.commands import SWEEP

if TYPE_CHECKING:
    from cimrobust.certificate.models.swept import SweepModel


@click.command(
    "sweep",
    cls=ExampleCommand,
    examples=(
        (
            "cimrobust sweep model.onnx --data data.toml --tolerances 0.01,0.03 --require 0.9 --out"
            " sweep"
        ),
    ),
)
@model_argument
@data_option()
@click.option(
    "--tolerances",
    required=True,
    type=Numbers(),
    metavar="T,T,...",
    help="Write-verify tolerances in place of the profile's, fractions of the conductance range.",
)
@out_folder_option("Folder for sweep.json and sweep.html.")
@setting_options(SWEEP)
@allow_code_option
@open_option("sweep.html")
@progress_option
@json_option
def command(model: Path, as_json: bool, out: Path, **settings: Any) -> None:
    """Find the worst chip of MODEL, draw chips and certify at several write-verify tolerances.

    Three answers to "how large may the tolerance be?", which must not be confused. Unrefuted: no
    search found a chip that misses the requirement. Statistical: all but 1 % of
    drawn chips meet it, at 95 % confidence. Certified: every chip meets it, by proof.
    """
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.pipeline.sweep import sweep

    with shown_progress() as progress:
        made = sweep(model, out=out, progress=progress, **settings)
    if as_json:
        click.echo(json.dumps(summary(made.record, str(out)), indent=2))
        return
    _print(made.record, str(out))


def summary(sweep: SweepModel, directory: str) -> dict[str, Any]:
    """Return the numbers that a pipeline wants."""
    points = [
        {
            "tolerance": point.tolerance,
            "worst_found": point.worst_found.score,
            "mean": point.monte_carlo.mean,
            "kpp_bound": point.monte_carlo.kpp[0].lower_bound,
            "certified": point.certified.score,
        }
        for point in sweep.points
    ]
    safe = sweep.safe
    named = (
        None if safe is None else {name: claim.tolerance for name, claim in safe.claims().items()}
    )
    return {
        "metric": sweep.metric.name,
        "clean": sweep.clean.score,
        "points": points,
        "required": None if safe is None else safe.required,
        "largest_safe_tolerance": named,
        "sweep": f"{directory}/sweep.json",
        "html": f"{directory}/sweep.html",
        "warnings": list(sweep.warnings),
    }


def _print(sweep: SweepModel, directory: str) -> None:
    click.echo(
        f"{'tolerance':<12}{'worst found':<14}{'average chip':<14}{'KPP 1 % bound':<16}certified"
    )
    for point in sweep.points:
        drawn, proof = point.monte_carlo, point.certified
        scores = (point.worst_found.score, drawn.mean, drawn.kpp[0].lower_bound, proof.score)
        worst, mean, bound, certified = map(printed_score, scores)
        tolerance = f"{100 * point.tolerance:.4g} %"
        click.echo(f"{tolerance:<12}{worst:<14}{mean:<14}{bound:<16}{certified}")
    if sweep.safe is not None:
        for name, claim in sweep.safe.claims().items():
            click.echo(f"{name:<12}{claim.statement}")
    for warning in sweep.warnings:
        click.echo(f"{'warning':<12}{warning}")
    click.echo(f"{'report':<12}{directory}/sweep.html")
