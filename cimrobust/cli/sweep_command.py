"""`cimrobust sweep`: one network over write-verify tolerances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    NUMBER,
    allow_code_option,
    count,
    device_option,
    digital_option,
    json_option,
    model_argument,
    time_limit_option,
)

if TYPE_CHECKING:
    from cimrobust.certificate.models.swept import SweepModel


def _tolerances(context: click.Context, parameter: click.Parameter, value: str) -> list[float]:
    """Read tolerances separated by commas."""
    try:
        return [float(part) for part in value.split(",") if part.strip()]
    except ValueError as err:
        raise click.BadParameter(
            f"must be numbers separated by commas, got '{value}'; e.g. 0.005,0.01,0.03"
        ) from err


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
@click.option(
    "--data", required=True, metavar="DATA", help="Evaluation data, as for `cimrobust analyze`."
)
@device_option
@digital_option
@click.option(
    "--tolerances",
    required=True,
    callback=_tolerances,
    metavar="T,T,...",
    help="Write-verify tolerances in place of the profile's, fractions of the conductance range.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for sweep.json and sweep.html.",
)
@click.option(
    "--require",
    type=NUMBER,
    metavar="SCORE",
    help=(
        "Score that a chip has to reach (an error it may not exceed): look for the largest"
        " tolerance at which that is unrefuted, statistically met, certified."
    ),
)
@click.option(
    "--effort",
    type=click.Choice(["quick", "standard", "thorough"]),
    default="quick",
    show_default=True,
    help="How much to search at every tolerance, and how many chips to draw.",
)
@click.option(
    "--trials",
    type=count("trials"),
    help="Chips to draw at every tolerance; default 300, 1000 or 3000 by effort.",
)
@click.option(
    "--seed",
    type=count("seed", least=0),
    default=0,
    show_default=True,
    help="Seed of every random number.",
)
@click.option(
    "--workers",
    type=count("workers"),
    help="Threads; results do not depend on it. Default: all processors.",
)
@click.option("--limit", type=count("limit"), help="Use the first N samples only.")
@click.option(
    "--calibration",
    metavar="DATA",
    help="Data that converters take their ranges from, as for `cimrobust analyze`.",
)
@click.option(
    "--witnesses", is_flag=True, help="Write the worst chip of every tolerance too, under witness/."
)
@click.option(
    "--resume", is_flag=True, help="Go on where an interrupted run of the same command stopped."
)
@time_limit_option
@allow_code_option
@json_option
def command(model: Path, as_json: bool, out: Path, **settings: Any) -> None:
    """Find the worst chip of MODEL, draw chips and certify at several write-verify tolerances.

    Three answers to "how large may the tolerance be?", which must not be confused. Unrefuted: no
    search found a chip that misses the requirement. Statistical: all but 1 % of
    drawn chips meet it, at 95 % confidence. Certified: every chip meets it, by proof.
    """
    from cimrobust.cli.progress_bars import TerminalProgress
    from cimrobust.pipeline.sweep import sweep

    with TerminalProgress() as progress:
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
        bound, certified = (_number(value) for value in (drawn.kpp[0].lower_bound, proof.score))
        tolerance = f"{100 * point.tolerance:.4g} %"
        click.echo(
            f"{tolerance:<12}{_number(point.worst_found.score):<14}{_number(drawn.mean):<14}{bound:<16}{certified}"
        )
    if sweep.safe is not None:
        for name, claim in sweep.safe.claims().items():
            click.echo(f"{name:<12}{claim.statement}")
    for warning in sweep.warnings:
        click.echo(f"{'warning':<12}{warning}")
    click.echo(f"{'report':<12}{directory}/sweep.html")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
