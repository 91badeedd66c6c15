"""`cimrobust rare`: how likely a chip is that misses a score."""

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
from cimrobust.cli.setting_options import NUMBER, setting_options
from cimrobust.settings.commands import RARE


@click.command(
    "rare",
    cls=ExampleCommand,
    examples=("cimrobust rare model.onnx --data data.toml --below 0.9 --workers 4",),
)
@model_argument
@data_option()
@click.option(
    "--below",
    required=True,
    type=NUMBER,
    metavar="SCORE",
    help="Score that a chip has to reach; an error it may not exceed.",
)
@setting_options(RARE)
@allow_code_option
@progress_option
@json_option
def command(model: Path, as_json: bool, **settings: Any) -> None:
    """Estimate how likely a drawn chip of MODEL is that misses a score.

    Multilevel splitting sees probabilities of 1e-6 and below.

    Multilevel splitting reaches down to 1e-6 and below. Beside it stands the most probable failing
    chip that a search finds, and its first-order probability.

    Model-based: it believes the stated distribution of devices far into its tails. The bounds of
    `cimrobust analyze` do not.
    """
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.pipeline.rare_chips import rare

    with shown_progress() as progress:
        found = rare(model, progress=progress, **settings)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(found["statement"])
    for number, repeat in enumerate(found["repeats"], start=1):
        click.echo(
            f"{f'repeat {number}':<22}{repeat['probability']:.3g}, {repeat['levels']} levels,"
            f" {repeat['evaluations']} chips"
        )
    click.echo(found["label"])
    for line in _most_probable(found):
        click.echo(line)


def _most_probable(found: dict[str, Any]) -> list[str]:
    """Return what is printed of the most probable failing chip."""
    chip, first = found["most_probable"], found["first_order"]
    if chip is None:
        return [f"No most probable failing chip: {found['most_probable_reason']}."]
    starts = [
        f"{row['name']}: {'none' if row['norm'] is None else format(row['norm'], '.4g')}"
        for row in chip["starts"]
    ]
    return [
        chip["statement"],
        f"{'norm by start':<22}{'; '.join(starts)}",
        (
            f"{'devices':<22}{chip['beyond_1']} of {chip['devices']} beyond 1 in latents,"
            f" {chip['beyond_2']} beyond 2, {chip['beyond_3']} beyond 3"
        ),
        chip["label"],
        first["comparison"],
        first["meaning"],
    ]
