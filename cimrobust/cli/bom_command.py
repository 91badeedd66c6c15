"""`cimrobust bom`: a certified network in a bill of materials."""

from __future__ import annotations

from pathlib import Path

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import certificate_argument, json_option


@click.command(
    "bom",
    cls=ExampleCommand,
    examples=("cimrobust bom out --out model.cdx.json",),
)
@certificate_argument
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, outside of DIR.",
)
@click.option(
    "--timestamp",
    metavar="TIME",
    help=(
        "When it is made, e.g. 2026-11-29T12:00:00+00:00. Default: not stated, so that the same DIR"
        " gives the same file."
    ),
)
@json_option
def command(directory: Path, out: Path, timestamp: str | None, as_json: bool) -> None:
    """Write a CycloneDX 1.6 ML-BOM of the network of the certificate in DIR.

    Scores become metrics of a model card, limits its limitations; the certificate is evidence, the
    worst chip found counter-evidence.
    """
    from cimrobust.pipeline.billing import bom

    written = bom(directory, out=out, timestamp=timestamp)
    if as_json:
        from cimrobust.certificate.models.printed_folders import BomOutput
        from cimrobust.files import sha256_of

        made = BomOutput(file=str(written), sha256=sha256_of(written))
        click.echo(made.model_dump_json(indent=2))
        return
    click.echo(str(written))
