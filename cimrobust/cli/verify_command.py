"""`cimrobust verify`: which devices to verify more tightly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    allow_code_option,
    data_option,
    json_option,
    model_argument,
    progress_option,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.settings.commands import VERIFY


@click.command(
    "verify",
    cls=ExampleCommand,
    examples=(
        "cimrobust verify model.onnx --data data.toml --shares 0.01,0.05 --out devices.parquet",
    ),
)
@model_argument
@data_option()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Parquet file for the ranked devices.",
)
@setting_options(VERIFY)
@allow_code_option
@progress_option
@json_option
def command(model: Path, as_json: bool, **settings: Any) -> None:
    """Rank the devices of MODEL by what verifying them more tightly gains in the worst case.

    Every share and ranking is attacked again from scratch; the table compares rankings by the worst
    chip found afterwards.
    """
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.pipeline.verifying import verify

    with shown_progress() as progress:
        found = verify(model, progress=progress, **settings)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    _print(found, out=str(settings["out"]))


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
