"""`cimrobust analyze`: the whole job on one network."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    allow_code_option,
    data_option,
    json_option,
    model_argument,
    out_folder_option,
    progress_kind,
    progress_option,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.cli.show_page import open_option
from cimrobust.cli.step_summary import say_where, step_summary
from cimrobust.cli.uncollected import uncollected
from cimrobust.settings.commands import ANALYZE


@click.command(
    "analyze",
    cls=ExampleCommand,
    examples=(
        "cimrobust analyze model.onnx --data data.toml --out out",
        (
            "cimrobust analyze model.onnx --data data.toml --device isaac-like-8bit --effort quick"
            " --out out"
        ),
        "cimrobust analyze model.onnx --data data.toml --policy policy.toml --stop-early --out out",
        (
            "cimrobust analyze model.onnx --data data.toml --digital 'conv1*' --tolerance 0.01"
            " --out out"
        ),
        "cimrobust analyze model.onnx --data data.toml --shard 3/10 --out shards",
        "cimrobust analyze model.onnx --data data.toml --shards shards --out out",
    ),
)
@model_argument
@data_option(
    "Data description (TOML), .npz with x and y, CSV, image folder, folder of ONNX test data, or"
    " module:function."
)
@out_folder_option("Folder for the certificate.")
@setting_options(ANALYZE)
@click.option(
    "--shard",
    metavar="I/N",
    help=(
        "Draw share I of N of the trials only, into a folder of its own under --out; see --shards."
    ),
)
@allow_code_option
@open_option("certificate.html")
@click.option(
    "--show-plan",
    is_flag=True,
    help=(
        "Show what the run is expected to take before it begins. By default only where that is more"
        " than a minute."
    ),
)
@progress_option
@json_option
def command(
    model: Path,
    as_json: bool,
    out: Path,
    data: str,
    shard: str | None,
    show_plan: bool,
    **settings: Any,
) -> None:
    """Find the worst chip that the device tolerance allows for MODEL, and write a certificate.

    Writes certificate.json, certificate.html, witness/ and trials.parquet under --out; with --shard
    a folder shard-I-of-N alone.
    """
    if shard is not None:
        _draw(model, out, shard, {"data": data, **settings}, as_json=as_json)
        return
    with uncollected():
        from cimrobust.cli.certificate_summary import print_summary
        from cimrobust.cli.planned_lines import show_plan as shown
        from cimrobust.cli.shown_progress import shown_progress
        from cimrobust.pipeline.analysis import analyze_by_command
        from cimrobust.pipeline.clock import Clock
        from cimrobust.pipeline.planned_analysis import Told

    clock, collected = Clock.of_process(), step_summary()
    told = Told(lambda planned: shown(planned, err=True), always=show_plan)
    with shown_progress() as progress:
        certificate = analyze_by_command(
            model,
            data=data,
            out=out,
            clock=clock,
            told=told,
            collected=collected,
            progress=progress,
            **settings,
        )
    print_summary(certificate.record, directory=str(out), as_json=as_json)
    # With these stderr is for a machine, or for nobody.
    if progress_kind(click.get_current_context()) in ("json", "none"):
        return
    say_where(collected)
    if certificate.record.policy is None:
        click.echo(f"next: {shlex.join(['cimrobust', 'gate', str(out)])} --policy FILE", err=True)


def _draw(model: Path, out: Path, shard: str, settings: dict[str, Any], *, as_json: bool) -> None:
    """Draw a share of the trials and say where it is."""
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.errors import UsageError
    from cimrobust.pipeline.sharding import draw_shard

    if as_json:
        raise UsageError(
            "a shard must be read from its folder, got --json with --shard; read shard.json there"
        )
    with shown_progress() as progress:
        drawn = draw_shard(model, out=out, shard=shard, progress=progress, **settings)
    manifest = drawn.manifest
    click.echo(f"{'shard':<22}{manifest.shard} of {manifest.of}, {manifest.trials} trials in all")
    click.echo(f"{'folder':<22}{drawn.folder}")
