"""`cimrobust report`: the page of a result, again from its JSON."""

from __future__ import annotations

from pathlib import Path

import click

from cimrobust.cli.help import ExampleCommand
from cimrobust.cli.options import certificate_argument


@click.command("report", cls=ExampleCommand, examples=("cimrobust report out",))
@certificate_argument
def command(directory: Path) -> None:
    """Write the page of a certificate, a sweep or a re-training in DIR again from its JSON."""
    from cimrobust.review.checking import rewrite_report

    click.echo(str(rewrite_report(directory)))
