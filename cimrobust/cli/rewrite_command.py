"""`cimrobust rewrite`: the model with crossbar nodes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    json_option,
    model_argument,
    time_limit_option,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.settings.commands import ANALYZE


@click.command(
    "rewrite",
    cls=ExampleCommand,
    examples=(
        "cimrobust rewrite model.onnx --out crossbars.onnx",
        (
            "cimrobust rewrite model.onnx --device isaac-like-8bit --digital 'conv1*' --out"
            " crossbars.onnx"
        ),
    ),
)
@model_argument
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="ONNX file to write.",
)
@setting_options(ANALYZE, only=("device", "tolerance", "digital"))
@time_limit_option
@json_option
def command(
    model: Path,
    device: str,
    out: Path,
    tolerance: float | None,
    digital: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write MODEL with one node of domain `cimrobust` for every crossbar layer.

    The nodes hold the weights as the device profile quantises them.

    The result is an ordinary ONNX file: each of these nodes is a function of the plain operator, so
    it opens in any viewer and runs in any runtime. Bits, slices, tiles, scale and box radius of
    each layer are in the metadata of its node.
    """
    from cimrobust.pipeline.rewriting import rewrite

    rewritten = rewrite(model, device=device, out=out, tolerance=tolerance, digital=digital)
    summary = rewritten.to_dict()
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    nodes = ", ".join(f"{count} {name}" for name, count in summary["crossbar_nodes"].items())
    click.echo(
        f"{summary['file']}: {nodes}; {summary['mapped_weights']:,} weights in"
        f" {summary['total_devices']:,} devices on {summary['device']}"
    )
    for note in summary["notes"]:
        click.echo(f"note: {note}")
