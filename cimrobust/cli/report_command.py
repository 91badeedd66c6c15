"""`cimrobust report`: the page of a result, again from its JSON."""

from __future__ import annotations

from pathlib import Path

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import certificate_argument, json_option
from cimrobust.cli.show_page import open_flag, show_page
from cimrobust.cli.uncollected import uncollected


@click.command(
    "report",
    cls=ExampleCommand,
    examples=(
        "cimrobust report out",
        "cimrobust report out --previous released --pdf certificate.pdf",
    ),
)
@certificate_argument
@click.option(
    "--previous",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=(
        "Folder of an earlier certificate: DIR/change.html is the page with what changed since"
        " then."
    ),
)
@click.option(
    "--pdf",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the page as PDF/A-3u too (extra `pdf`), with what changed if --previous is given.",
)
@open_flag
@json_option
def command(
    directory: Path, previous: Path | None, pdf: Path | None, is_opened: bool, as_json: bool
) -> None:
    """Write the page of a certificate, a sweep or a re-training in DIR again from its JSON."""
    with uncollected():
        from cimrobust.review.page_again import rewrite_report

    written = rewrite_report(directory, previous=previous, pdf=pdf)
    if is_opened:
        show_page(written[0])
    if as_json:
        from cimrobust.certificate.models.printed_folders import ReportOutput
        from cimrobust.files import sha256_of
        from cimrobust.pipeline.in_memory import given_folder
        from cimrobust.review.result_files import results_in

        folder = given_folder(directory)
        result = folder / results_in(folder)[0]
        made = ReportOutput(
            written=[str(path) for path in written],
            result=str(result),
            result_sha256=sha256_of(result),
        )
        click.echo(made.model_dump_json(indent=2))
        return
    for path in written:
        click.echo(str(path))
