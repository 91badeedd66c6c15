"""`cimrobust replay`: somebody else's certificate, checked again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cimrobust.cli.help import ExampleCommand
from cimrobust.cli.options import allow_code_option, certificate_argument, json_option, time_limit_option

EXIT_NOT_HELD = 70


@click.command(
    "replay",
    cls=ExampleCommand,
    examples=(
        "cimrobust replay out",
        "cimrobust replay out --model model.onnx --data data.toml",
    ),
)
@certificate_argument
@click.option("--model", type=click.Path(path_type=Path), help="The certified network, to check its hash and its clean score.")
@click.option("--data", metavar="DATA", help="The evaluation data, to score the witness again.")
@click.option(
    "--labels-of",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="The network whose decisions are the labels, for a certificate made with `analyze --labels-of`.",
)
@time_limit_option
@allow_code_option
@json_option
def command(directory: Path, model: Path | None, data: str | None, labels_of: Path | None, as_json: bool) -> int:
    """Derive the claims of the certificate in DIR again from its files, and say which hold.

    Without --data and --model the claims that need them are reported as not checked.
    """
    from cimrobust.pipeline.checking import replay

    checks = replay(directory, model=model, data=data, labels_of=labels_of)
    if as_json:
        click.echo(json.dumps([check.to_dict() for check in checks], indent=2))
    else:
        for check in checks:
            click.echo(f"{_mark(check.held):<14}{check.id:<40} {check.detail}")
    return EXIT_NOT_HELD if any(check.held is False for check in checks) else 0


def _mark(held: bool | None) -> str:
    return {True: "holds", False: "BROKEN", None: "not checked"}[held]
