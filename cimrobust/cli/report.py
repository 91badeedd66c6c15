"""`cimrobust report`: the HTML of a certificate, again from its JSON."""

from __future__ import annotations

from pathlib import Path

import click

from cimrobust.cli.help import ExampleCommand
from cimrobust.cli.options import certificate_argument


@click.command("report", cls=ExampleCommand, examples=("cimrobust report out",))
@certificate_argument
def command(directory: Path) -> None:
    """Write DIR/certificate.html again from DIR/certificate.json."""
    from cimrobust.review.checking import rewrite_report

    click.echo(str(rewrite_report(directory)))
