"""`cimrobust schema`: the published schema of a result file."""

from __future__ import annotations

import click

from cimrobust.cli.command_help import ExampleCommand


@click.command(
    "schema",
    cls=ExampleCommand,
    examples=(
        "cimrobust schema certificate > certificate-schema.json",
        "cimrobust schema certificate --version 1.0.0",
    ),
)
@click.argument(
    "name",
    type=click.Choice(
        ["certificate", "sweep", "retrain", "suggest", "comparison", "manifest", "attestation"]
    ),
)
@click.option(
    "--version", metavar="VERSION", help="Version of the format, e.g. 1.4.0. Default: the newest."
)
def command(name: str, version: str | None) -> None:
    """Print the JSON Schema (2020-12) that result files follow.

    Attestation: the predicate of what `cimrobust sign` signs.
    """
    from cimrobust.certificate.published_schemas import schema_file

    click.echo(schema_file(name, version).read_text(encoding="utf-8"), nl=False)
