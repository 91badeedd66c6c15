"""`cimrobust schema`: the published schema of a result file."""

from __future__ import annotations

import click

from cimrobust.cli.command_help import ExampleCommand

FILES = ("certificate", "sweep", "retrain", "suggest", "comparison", "manifest", "attestation")
#: What commands print with --json, or with --progress json.
PRINTED = (
    "init-output",
    "inspect-output",
    "analyze-output",
    "plan-output",
    "sweep-output",
    "rare-output",
    "gate-output",
    "gate-refused-output",
    "replay-output",
    "sign-output",
    "verify-signature-output",
    "bom-output",
    "report-output",
    "retrain-output",
    "verify-output",
    "rewrite-output",
    "devices-list-output",
    "devices-show-output",
    "devices-levels-output",
    "devices-fit-output",
    "devices-check-output",
    "doctor-output",
    "progress-output",
)
NAMES = (*FILES, *PRINTED)


@click.command(
    "schema",
    cls=ExampleCommand,
    examples=(
        "cimrobust schema certificate > certificate-schema.json",
        "cimrobust schema certificate --version 1.0.0",
        "cimrobust schema gate-output",
    ),
)
@click.argument("name", metavar="NAME", type=click.Choice(NAMES))
@click.option(
    "--version", metavar="VERSION", help="Version of the format, e.g. 1.4.0. Default: the newest."
)
def command(name: str, version: str | None) -> None:
    """Print the JSON Schema (2020-12) that result files follow.

    Attestation: the predicate of what `cimrobust sign` signs. Names that end in -output: what a
    command prints with --json; progress-output: a line of what one prints with --progress json.
    """
    from cimrobust.certificate.schema_files import schema_file

    click.echo(schema_file(name, version).read_text(encoding="utf-8"), nl=False)
