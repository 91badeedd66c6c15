"""`cimrobust init`: a commented data description to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import json_option, model_argument

if TYPE_CHECKING:
    from cimrobust.certificate.models.printed_networks import InitOutput
    from cimrobust.pipeline.describing import Described


@click.command(
    "init",
    cls=ExampleCommand,
    examples=(
        "cimrobust init model.onnx test.npz --out data.toml",
        "cimrobust init model.onnx images/ --out -",
    ),
)
@model_argument
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    default="data.toml",
    show_default=True,
    metavar="FILE",
    help="Where to write the description; - prints it.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def command(model: Path, data: Path | None, out: str, force: bool, as_json: bool) -> None:
    """Write a data description for MODEL and DATA.

    .npz, .csv, .parquet, shards (.tar), a folder of images or of ONNX test data.

    It says what the files tell, and as comments what they do not; the first samples are run to
    check it. Look at the result with `cimrobust inspect MODEL --data FILE`.
    """
    from cimrobust.errors import UsageError
    from cimrobust.files import write_whole
    from cimrobust.pipeline.describing import describe

    path = Path(out)
    if out != "-" and path.exists() and not force:
        raise UsageError(
            f"description must not replace a file, got {path} (--out); give another name, or"
            " --force"
        )
    if out != "-" and not path.absolute().parent.is_dir():
        raise UsageError(
            f"description must go into a folder that is there, got {path} (--out); make it first"
        )
    found = describe(model, data, folder=Path.cwd() if out == "-" else path.absolute().parent)
    if out != "-":
        write_whole(path, found.text.encode("utf-8"))
    if as_json:
        click.echo(_output(found, None if out == "-" else str(path)).model_dump_json(indent=2))
        return
    if out == "-":
        click.echo(found.text, nl=False)
    else:
        click.echo(f"description           {path}")
    if found.understanding is not None:
        task, output = found.understanding.judged.task, found.understanding.judged.output
        score = task.score(output)
        click.echo(
            f"clean {task.metric:16}{score.value:.4f} on the first"
            f" {found.understanding.judged.dataset.num_samples} samples",
            err=out == "-",
        )
    if found.problem:
        click.echo(f"open: {found.problem}", err=True)


def _output(found: Described, file: str | None) -> InitOutput:
    from cimrobust.certificate.models.printed_networks import InitOutput

    known = found.understanding
    return InitOutput(
        file=file,
        text=found.text,
        metric=None if known is None else known.judged.task.metric,
        clean=None if known is None else known.score,
        samples=None if known is None else known.judged.dataset.num_samples,
        problem=found.problem or None,
    )
