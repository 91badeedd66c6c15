"""`cimrobust compare`: two certificates side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.deferred_modules import deferred
from cimrobust.cli.options import json_option
from cimrobust.cli.uncollected import uncollected

if TYPE_CHECKING:
    from cimrobust.certificate.models.compared_certificates import BoundedScore, Comparison


@click.command(
    "compare",
    cls=ExampleCommand,
    examples=(
        "cimrobust compare released out",
        "cimrobust compare released out --out compare.html",
        "cimrobust compare released/certificate.json out/certificate.json --json",
    ),
)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file to write.")
@json_option
def command(a: Path, b: Path, out: Path | None, as_json: bool) -> None:
    """Set the certificates A and B, folders or certificate.json files, side by side.

    Says what was equal, which numbers differ and whether chance can explain it, and which
    requirements and layers changed. Judges nothing: `gate --baseline`
    does that. Checks no evidence: `replay` does that.
    """
    with uncollected(), deferred():
        from cimrobust.review.comparing import compare

    found = compare(a, b, out=out)
    if as_json:
        click.echo(json.dumps(found.model_dump(), indent=2))
        return
    _print(found)
    if out is not None:
        click.echo(str(out))


def _print(found: Comparison) -> None:
    from cimrobust.input_file import printable

    click.echo(
        f"A: {printable(found.a.model)}, {found.a.verdict}; B: {printable(found.b.model)},"
        f" {found.b.verdict}"
    )
    click.echo(f"equal: {', '.join(row.name for row in found.sameness if row.equal) or 'nothing'}")
    for row in found.sameness:
        if not row.equal:
            click.echo(f"different {row.name}: {printable(row.a)} | {printable(row.b)}")
    for score in found.scores:
        click.echo(
            f"{score.name:<12} {_shown(score.a):<36} {_shown(score.b):<36}"
            f" {printable(score.statement)}"
        )
    for requirement in found.requirements:
        click.echo(
            f"requirement {printable(requirement.id)}: {requirement.a or 'not asked'} ->"
            f" {requirement.b or 'not asked'}"
        )
    for layer in found.layers:
        how = (
            ", ".join(layer.fields)
            if layer.in_a and layer.in_b
            else f"in devices in {'A' if layer.in_a else 'B'} alone"
        )
        click.echo(f"layer {printable(layer.initializer)}: {how}")
    for note in found.notes:
        click.echo(note)


def _shown(score: BoundedScore | None) -> str:
    if score is None:
        return "none"
    ends = ["" if end is None else f"{end:.6g}" for end in (score.low, score.high)]
    return f"{score.score:.6g}" + (f" [{ends[0]}, {ends[1]}]" if any(ends) else "")
