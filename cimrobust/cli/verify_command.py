"""`cimrobust verify`: which devices to verify more tightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    tolerance_option,
)


@click.command(
    "verify",
    cls=ExampleCommand,
    examples=(
        "cimrobust verify model.onnx --data data.toml --shares 0.01,0.05 --out devices.parquet",
    ),
)
@model_argument
@click.option(
    "--data", required=True, metavar="DATA", help="Evaluation data, as for `cimrobust analyze`."
)
@device_option
@tolerance_option
@digital_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parquet file for the ranked devices.",
)
@click.option(
    "--shares",
    default="0.01,0.02,0.05,0.1,0.2,0.5",
    show_default=True,
    metavar="SHARE,...",
    help="Shares of all devices to verify more tightly.",
)
@click.option(
    "--tighter", type=NUMBER, default=10.0, show_default=True, help="How many times tighter."
)
@click.option(
    "--write-sigma",
    type=NUMBER,
    default=0.1,
    show_default=True,
    help="Spread of one write as a fraction of the range, for the number of writes.",
)
@click.option(
    "--effort",
    type=click.Choice(["quick", "standard", "thorough"]),
    default="quick",
    show_default=True,
    help="Search on the full box.",
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
    "--device-type",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where gradients are computed.",
)
@time_limit_option
@allow_code_option
@json_option
def command(model: Path, as_json: bool, workers: int | None, shares: str, **settings: Any) -> None:
    """Rank the devices of MODEL by what verifying them more tightly gains, and write the list.

    Gains are against the worst case.

    Every share and ranking is attacked again from scratch; the table compares rankings by the worst
    chip found afterwards.
    """
    from cimrobust.cli.progress_bars import TerminalProgress
    from cimrobust.pipeline.arguments import available_processors
    from cimrobust.pipeline.verifying import verify

    with TerminalProgress() as progress:
        found = verify(
            model,
            shares=_shares(shares),
            workers=workers or available_processors(),
            progress=progress,
            **settings,
        )
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    _print(found, out=str(settings["out"]))


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as err:
        raise click.BadParameter(
            f"shares must be numbers separated by commas, got '{text}'", param_hint="--shares"
        ) from err


def _print(found: dict[str, Any], *, out: str) -> None:
    click.echo(
        f"{'worst chip found':<22}{found['worst_found']:.4f} without tighter verification,"
        f" {found['quantised']:.4f} without deviation"
    )
    shares = list(dict.fromkeys(row["share"] for row in found["rows"]))
    click.echo(f"{'verified':<22}" + "".join(f"{100 * share:>9.3g} %" for share in shares))
    for name in dict.fromkeys(row["ranking"] for row in found["rows"]):
        scores = [row["score"] for row in found["rows"] if row["ranking"] == name]
        click.echo(f"{name.replace('_', ' '):<22}" + "".join(f"{score:>11.4f}" for score in scores))
    extra = [row["extra_writes"] for row in found["rows"][: len(shares)]]
    click.echo(f"{'writes added':<22}" + "".join(f"{100 * value:>9.3g} %" for value in extra))
    click.echo(
        f"{'ranked devices':<22}{out}: {found['listed_devices']} of {found['total_devices']}, by"
        f" {found['best_ranking'].replace('_', ' ')}"
    )
