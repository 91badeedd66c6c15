"""`cimrobust gate`: a certificate against a policy, for pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.deferred_modules import deferred
from cimrobust.cli.options import allow_code_option, certificate_argument, json_option
from cimrobust.cli.setting_options import NUMBER
from cimrobust.cli.step_summary import say_where, step_summary
from cimrobust.cli.uncollected import uncollected


@click.command(
    "gate",
    cls=ExampleCommand,
    examples=(
        "cimrobust gate out --policy policy.toml",
        (
            "cimrobust gate out --policy policy.toml --model model.onnx --data data.toml --junit"
            " gate.xml"
        ),
        "cimrobust gate out --policy policy.toml --baseline released --no-worse-than 0.01",
        "cimrobust gate out --policy policy.toml --sarif gate.sarif --summary gate.md",
    ),
)
@certificate_argument
@click.option(
    "--policy",
    required=True,
    type=click.Path(path_type=Path),
    help="Policy (TOML), see docs/how-to/policy.md.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="The network that is to be deployed: a certificate of another one is refused.",
)
@click.option(
    "--data",
    metavar="DATA",
    help="The evaluation data, as for analyze: a certificate of others is refused.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=(
        "Certificate of the network in use, to compare with. Example: --baseline released"
        " --no-worse-than 0.01"
    ),
)
@click.option(
    "--no-worse-than",
    type=NUMBER,
    metavar="X",
    help=(
        "Require too that scores without deviation and of the worst chip found are at most X worse"
        " than the baseline's."
    ),
)
@click.option(
    "--today",
    metavar="YYYY-MM-DD",
    help="Day that the policy's newest_days counts to. Default: today (UTC).",
)
@click.option(
    "--issued-after",
    metavar="YYYY-MM-DD",
    help="Require too that the certificate states a later day of issue (analyze --issued).",
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the result as JUnit XML too.",
)
@click.option(
    "--sarif",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the result as SARIF 2.1.0 too, for code scanning.",
)
@click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False),
    help=(
        "Write the result as Markdown too, for a pull request. The same is appended to the file"
        " that the environment variable GITHUB_STEP_SUMMARY names, where it is set."
    ),
)
@click.option(
    "--require-signature",
    metavar="IDENTITY",
    help=(
        "Refuse a certificate that is not signed by IDENTITY: a public key file, or"
        " NAME@https://ISSUER of sigstore."
    ),
)
@allow_code_option
@json_option
def command(directory: Path, as_json: bool, **arguments: Any) -> int:
    """Check the certificate in DIR against a policy.

    First everything is derived again that the files in DIR let one derive without running a
    network: digests, numbers, verdict. Nothing is judged unless all of it holds. What cannot be
    checked so is named on stderr, and explained with --json.

    Exit code 0: every requirement and condition holds. 1: a requirement is refuted, the witness is
    in DIR. 3: one can be neither confirmed nor refuted, or the evidence was made under other
    conditions than the policy's. 6: evidence is missing, damaged or forged, or of another network
    or other data.
    """
    with uncollected(), deferred():
        from cimrobust.certificate.gate_evidence import EvidenceProblemsError
        from cimrobust.input_file import printable
        from cimrobust.review.gating import gate

    collected = step_summary()
    try:
        result = gate(directory, step_summary=collected, **arguments)
    except EvidenceProblemsError as error:
        say_where(collected)
        if as_json:
            click.echo(json.dumps(error.to_dict(), indent=2))
        raise
    say_where(collected)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    else:
        for requirement in result.requirements:
            click.echo(
                f"{requirement.status:<14}{printable(f'{requirement.id}: {requirement.sentence}')}"
            )
        click.echo(f"verdict: {result.word}")
        click.echo(printable(result.verdict.sentence))
        unchecked = ", ".join(claim.id for claim in result.not_checked)
        click.echo(f"not checked here: {printable(unchecked)} (--json says why)", err=True)
    return result.exit_code
