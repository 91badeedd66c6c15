"""`cimrobust gate`: a certificate against a policy, for pipelines."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cimrobust.cli.help import ExampleCommand
from cimrobust.cli.options import certificate_argument, json_option


@click.command(
    "gate",
    cls=ExampleCommand,
    examples=(
        "cimrobust gate out --policy policy.toml",
        "cimrobust gate out --policy policy.toml --junit gate.xml --json",
    ),
)
@certificate_argument
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="Policy (TOML).")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the result as JUnit XML too.")
@json_option
def command(directory: Path, policy: Path, junit: Path | None, as_json: bool) -> int:
    """Check the certificate in DIR against a policy.

    Exit code 0: every requirement holds. 1: one is refuted, the witness is in DIR. 3: one can be neither confirmed nor refuted.
    """
    from cimrobust.pipeline.checking import gate

    result = gate(directory, policy=policy, junit=junit)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        for requirement in result.requirements:
            click.echo(f"{requirement.status:<14}{requirement.sentence}")
        click.echo(f"verdict: {result.word}")
    return result.exit_code
