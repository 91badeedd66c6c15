"""`cimrobust init`: a commented data description to begin with."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import json_option, model_argument

if TYPE_CHECKING:
    from cimrobust.certificate.models.printed_networks import InitOutput
    from cimrobust.cli.pipeline_files import Runner
    from cimrobust.pipeline.describing import Described
    from cimrobust.pipeline.understanding import Understanding


@click.command(
    "init",
    cls=ExampleCommand,
    examples=(
        "cimrobust init model.onnx test.npz --out data.toml",
        "cimrobust init model.onnx test.npz --policy policy.toml --pipeline github",
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
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a policy to begin with there too: clean score and worst chip, to be changed.",
)
@click.option(
    "--pipeline",
    type=click.Choice(["github", "gitlab", "jenkins"]),
    help="Write a gate for this runner, where it looks for one below the working folder.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def command(
    model: Path,
    data: Path | None,
    out: str,
    policy: Path | None,
    pipeline: Runner | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a data description for MODEL and DATA.

    .npz, .csv, .parquet, .arrow, .feather, shards (.tar), a folder of images or of ONNX test data.

    It says what the files tell, and as comments what they do not; the first samples are run to
    check it. Look at the result with `cimrobust inspect MODEL --data FILE`.
    """
    from cimrobust.files import write_whole
    from cimrobust.pipeline.describing import describe

    path = Path(out)
    if out != "-":
        _check_place("description", path, "--out", force=force)
    if policy is not None:
        _check_place("policy", policy, "--policy", force=force)
    gate = {} if pipeline is None else _gate(pipeline, model, out, policy, force=force)
    found = describe(model, data, folder=Path.cwd() if out == "-" else path.absolute().parent)
    if out != "-":
        write_whole(path, found.text.encode("utf-8"))
    if policy is not None and found.understanding is not None:
        write_whole(policy, _draft(found.understanding).encode("utf-8"))
        _write(gate)
    if as_json:
        click.echo(_output(found, None if out == "-" else str(path)).model_dump_json(indent=2))
        return
    _echo(found, model, out, policy, gate)


def _echo(
    found: Described, model: Path, out: str, policy: Path | None, gate: Mapping[Path, str]
) -> None:
    """Say what was written, and what comes next."""
    if out == "-":
        click.echo(found.text, nl=False)
    else:
        click.echo(f"description           {Path(out)}")
    if found.understanding is not None:
        task, output = found.understanding.judged.task, found.understanding.judged.output
        score = task.score(output)
        dataset = found.understanding.judged.dataset
        click.echo(
            f"clean {task.metric:16}{score.value:.4f} on the first {dataset.num_samples} samples"
            f"{', of its own decisions: no labels' if dataset.labels is None else ''}"
            f"{', the lowest score deciding' if dataset.decision.read == 'argmin' else ''}",
            err=out == "-",
        )
        for text in found.understanding.warnings:
            click.echo(f"warning: {text}", err=True)
        if policy is not None:
            click.echo(f"{'policy':<22}{policy}", err=out == "-")
        for path in gate:
            click.echo(f"{'pipeline':<22}{path.relative_to(Path.cwd())}")
    elif policy is not None:
        lacking = "no policy and no pipeline" if gate else "no policy"
        click.echo(f"open: no clean score, so there is {lacking} ({policy})", err=True)
    if found.problem:
        click.echo(f"open: {found.problem}", err=True)
    elif out != "-":
        words = ["cimrobust", "analyze", str(model), "--data", out, "--out", "out"]
        click.echo(f"next: {shlex.join(words)}", err=True)


def _gate(
    runner: Runner, model: Path, out: str, policy: Path | None, *, force: bool
) -> dict[Path, str]:
    """Return the files of a pipeline; raises UsageError where they would miss or replace a file."""
    from cimrobust.cli.pipeline_files import pipeline_files
    from cimrobust.errors import UsageError

    if policy is None or out == "-":
        raise UsageError(
            f"a pipeline must name a description and a policy, got --pipeline {runner} without"
            " both files; give --policy FILE, and no --out -"
        )
    files = pipeline_files(runner, Path.cwd(), model=model, data=Path(out), policy=policy)
    for place in files:
        if place.exists() and not force:
            raise UsageError(
                f"pipeline must not replace a file, got {place} (--pipeline); move it, or --force"
            )
    return files


def _write(files: dict[Path, str]) -> None:
    from cimrobust.files import write_whole

    for place, text in files.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, text.encode("utf-8"))


def _check_place(what: str, path: Path, option: str, *, force: bool) -> None:
    """Raise UsageError where a file must not or cannot be written."""
    from cimrobust.errors import UsageError

    if path.exists() and not force:
        raise UsageError(
            f"{what} must not replace a file, got {path} ({option}); give another name, or --force"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"{what} must go into a folder that is there, got {path} ({option}); make it first"
        )


def _draft(known: Understanding) -> str:
    from cimrobust.certificate.policy_draft import policy_draft

    task = known.judged.task
    return policy_draft(
        known.score,
        metric=task.metric,
        higher_is_better=task.higher_is_better,
        samples=known.judged.dataset.num_samples,
    )


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
