"""`cimrobust plan`: what an analysis will take, before it is run."""

from __future__ import annotations

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
from cimrobust.settings.commands import PLAN


@click.command(
    "plan",
    cls=ExampleCommand,
    examples=(
        "cimrobust plan model.onnx --data data.toml",
        "cimrobust plan model.onnx --data data.toml --effort quick --json",
        "cimrobust plan model.onnx --data data.toml --time 30m",
    ),
)
@model_argument
@data_option()
@setting_options(PLAN)
@allow_code_option
@progress_option
@json_option
def command(model: Path, as_json: bool, **settings: Any) -> None:
    """Tell what `cimrobust analyze` with the same options would take: time and memory by stage.

    Opens the network, measures its speed on this machine for about a second, writes nothing. An
    estimate, good to a factor of about two. With --time: options that fit into it.
    """
    from cimrobust.cli.planned_lines import show_plan
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.pipeline.planned_analysis import plan

    with shown_progress() as progress:
        planned = plan(model, progress=progress, **settings)
    if as_json:
        from cimrobust.certificate.models.printed_plan import PlanOutput

        click.echo(PlanOutput.model_validate(dict(planned)).model_dump_json(indent=2))
        return
    show_plan(planned, err=False)
