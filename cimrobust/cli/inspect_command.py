"""`cimrobust inspect`: what would be stored in crossbars, and what would not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    json_option,
    model_argument,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.cli.uncollected import uncollected
from cimrobust.settings.commands import ANALYZE

if TYPE_CHECKING:
    from rich.table import Table


@click.command(
    "inspect",
    cls=ExampleCommand,
    examples=(
        "cimrobust inspect model.onnx",
        "cimrobust inspect model.onnx --data data.toml",
        "cimrobust inspect model.onnx --device isaac-like-8bit --digital 'conv1*'",
    ),
)
@model_argument
@setting_options(ANALYZE, only=("device", "tolerance", "digital"))
@click.option(
    "--data",
    help="Show how these data are understood: samples, labels, decisions, clean score, five rows.",
)
@setting_options(ANALYZE, only=("limit",))
@json_option
def command(
    model: Path,
    device: str,
    tolerance: float | None,
    digital: tuple[str, ...],
    data: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """Show which weights of MODEL map to crossbars, what stays digital and why.

    With --data how the data are understood.

    For each layer: matrix shape per group, devices, slices, tiles, how full they are, input vectors
    and conversions of one sample (at most, where the device has converters), scale and box radius
    (the largest deviation of a weight), and which rule of the profile decided for it, where it has
    any.
    """
    with uncollected():
        from cimrobust.pipeline.inspection import inspect_model

    inspection = inspect_model(model, device=device, tolerance=tolerance, digital=digital)
    summary = inspection.to_dict()
    if data is not None:
        from cimrobust.pipeline.understanding import understand

        summary["data"] = understand(inspection.network, data, limit=limit).to_dict()
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    _print_tables(summary)
    if data is not None:
        from cimrobust.cli.data_tables import print_data

        print_data(summary["data"])


def _layer_table(summary: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    has_rules = any(layer["decided_by"] != "profile" for layer in summary["layers"])
    layers = Table(
        title=f"Crossbar layers on {escape(summary['device'])}",
        box=box.SIMPLE,
        title_justify="left",
    )
    for heading in (
        "initializer",
        "operators",
        "matrix",
        "devices",
        "slices",
        "tiles",
        "used",
        "vectors",
        "conversions",
        "scale",
        "box radius",
        *(("decided by",) if has_rules else ()),
    ):
        layers.add_column(
            heading,
            overflow="fold",
            justify="left" if heading in ("initializer", "operators", "matrix") else "right",
        )
    for layer in summary["layers"]:
        layers.add_row(
            escape(layer["initializer"]),
            escape(", ".join(layer["operators"])),
            layer["matrix"],
            f"{layer['devices']:,}",
            str(layer["slices"]),
            str(layer["tiles"]),
            f"{100 * layer['utilisation']:.1f} %",
            _count(layer["vectors"]),
            _count(layer["conversions"]),
            layer["scale_text"],
            f"{layer['box_radius']:.4g}",
            *((escape(layer["decided_by"]),) if has_rules else ()),
        )
    return layers


def _digital_table(summary: Mapping[str, Any]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    digital = Table(title="Stays digital", box=box.SIMPLE, title_justify="left")
    for heading in ("node", "operator", "reason"):
        digital.add_column(heading, overflow="fold")
    for node in summary["unmapped"]:
        digital.add_row(*(escape(node[key]) for key in ("node", "op", "reason")))
    return digital


def _print_tables(summary: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for table in (
        _layer_table(summary),
        *([_digital_table(summary)] if summary["unmapped"] else []),
    ):
        console.print(table)
    click.echo(
        f"{_stored(summary['mapped_weights'], summary['parameters'])} in"
        f" {summary['total_devices']:,} devices on {summary['total_tiles']:,} tiles"
        f" ({100 * summary['utilisation']:.1f} % used); opset {summary['opset']},"
        f" {len(summary['layers'])} layers"
    )
    if summary["conversions_per_sample"] is not None:
        click.echo(
            f"at most {summary['conversions_per_sample']:,} conversions of bit lines for one sample"
        )
    for note in summary["notes"]:
        click.echo(f"note: {note}")


def _stored(num_mapped: int, num_parameters: int) -> str:
    """Say how many weights are stored; those computed from constants may be more than these."""
    if num_mapped > num_parameters:
        return f"{num_mapped:,} weights, computed from {num_parameters:,} parameters,"
    return f"{num_mapped:,} of {num_parameters:,} parameters"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
