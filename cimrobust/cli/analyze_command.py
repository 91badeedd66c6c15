"""`cimrobust analyze`: the whole job on one network."""

from __future__ import annotations

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
    run_options,
    time_limit_option,
    tolerance_option,
)


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
    ),
)
@model_argument
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help=(
        "Data description (TOML), .npz with x and y, CSV, image folder, folder of ONNX test data,"
        " or module:function."
    ),
)
@device_option
@tolerance_option
@digital_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the certificate.",
)
@click.option(
    "--calibration",
    metavar="DATA",
    help=(
        "Data that converters take their ranges from. Default: the description's train_file, else"
        " samples held out from --data."
    ),
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="Policy (TOML) that the verdict is given against.",
)
@click.option(
    "--stop-early",
    is_flag=True,
    help=(
        "Stop drawing chips as soon as the policy's kpp requirements are decided; --trials is then"
        " the most."
    ),
)
@click.option(
    "--rare-below",
    type=NUMBER,
    metavar="SCORE",
    help="Estimate how likely a chip is that misses this score, however rare it is.",
)
@click.option(
    "--rare-budget",
    type=count("rare-budget"),
    help="Chips that each of its two repeats may evaluate; default 40000.",
)
@click.option(
    "--device-type",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the search computes gradients; every score is onnxruntime's, on the processor.",
)
@click.option(
    "--diagnostics",
    metavar="all|none|NAME,...",
    help=(
        "What explains the worst chip: layers, classes, transfer, tolerance_curve, fragile_inputs,"
        " stuck_devices, write_verify. Default: none at effort quick, all at standard and thorough."
    ),
)
@click.option(
    "--safety-class",
    type=count("safety-class", least=0),
    metavar="CLASS",
    help=(
        "Class whose recall alone gets a search of its own. Default: the policy's safety_class, if"
        " it has one."
    ),
)
@click.option(
    "--skip-most-probable",
    is_flag=True,
    help="With --rare-below: leave out the search for the most probable such chip.",
)
@click.option(
    "--transfer",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Certificate of another network with the same layers; its witness is scored too.",
)
@click.option(
    "--labels-of",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help=(
        "Network whose clean decisions are the labels of data that have none. Default: MODEL"
        " itself."
    ),
)
@click.option(
    "--issued",
    metavar="YYYY-MM-DD",
    help="Day of issue that the certificate states. Default: none; no clock is read.",
)
@run_options
@time_limit_option
@allow_code_option
@json_option
def command(model: Path, as_json: bool, out: Path, **settings: Any) -> None:
    """Find the worst chip that the device tolerance allows for MODEL, and write a certificate.

    Writes certificate.json, certificate.html, witness/ and trials.parquet under --out.
    """
    from cimrobust.cli.certificate_summary import print_summary
    from cimrobust.cli.progress_bars import TerminalProgress
    from cimrobust.pipeline.analysis import analyze

    with TerminalProgress() as progress:
        certificate = analyze(model, out=out, progress=progress, **settings)
    print_summary(certificate.record, directory=str(out), as_json=as_json)
