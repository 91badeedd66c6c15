"""`cimrobust gate`: a certificate against a policy, for pipelines."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cimrobust.cli.options import certificate_argument, json_option


@click.command("gate", epilog="Example: cimrobust gate out --policy policy.toml --junit gate.xml")
@certificate_argument
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="Policy (TOML).")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write the result as JUnit XML too.")
@click.option(
    "--require-signature",
    metavar="IDENTITY",
    help="Refuse a certificate that is not signed by IDENTITY: a public key file, or NAME@https://ISSUER of sigstore.",
)
@json_option
def command(directory: Path, policy: Path, junit: Path | None, require_signature: str | None, as_json: bool) -> int:
    """Check the certificate in DIR against a policy.

    Exit code 0: every requirement holds. 1: one is refuted, the witness is in DIR. 3: one can be neither confirmed nor refuted.
    6: the signature that is required is not there or does not hold.
    """
    from cimrobust.pipeline.checking import gate

    result = gate(directory, policy=policy, junit=junit, require_signature=require_signature)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        for requirement in result.requirements:
            click.echo(f"{requirement.status:<14}{requirement.sentence}")
        click.echo(f"verdict: {result.word}")
    return result.exit_code
