"""`cimrobust demo`: the whole job on a sample."""

from __future__ import annotations

from pathlib import Path

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    json_option,
    progress_option,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.cli.show_page import open_option
from cimrobust.settings.commands import ANALYZE


@click.command("demo", cls=ExampleCommand, examples=("cimrobust demo --out demo-certificate",))
@click.option(
    "--out",
    default="cimrobust-demo",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the certificate.",
)
@setting_options(ANALYZE, only=("workers",))
@open_option("certificate.html")
@progress_option
@json_option
def command(out: Path, workers: int | None, as_json: bool) -> None:
    """Certify a small network that reads handwritten digits, which is shipped with the package.

    Takes about three minutes on two cores, and ends by saying where the HTML is.
    """
    from cimrobust.cli.certificate_summary import print_summary
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.pipeline.demonstration import demo

    with shown_progress() as progress:
        certificate = demo(out=out, workers=workers, progress=progress)
    print_summary(certificate.record, directory=str(out), as_json=as_json)
