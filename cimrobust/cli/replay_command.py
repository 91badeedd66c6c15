"""`cimrobust replay`: somebody else's certificate, sweep or re-training, checked again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    allow_code_option,
    certificate_argument,
    count,
    json_option,
    time_limit_option,
)

EXIT_REFUTED = 6


@click.command(
    "replay",
    cls=ExampleCommand,
    examples=(
        "cimrobust replay out",
        "cimrobust replay out --model model.onnx --data data.toml --search quick",
        "cimrobust replay out --model model.onnx --data data.toml --rerun",
    ),
)
@certificate_argument
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="The certified network; of a re-training the one before it.",
)
@click.option("--data", metavar="DATA", help="The evaluation data.")
@click.option(
    "--labels-of",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help=(
        "The network whose decisions are the labels, for a certificate made with `analyze"
        " --labels-of`."
    ),
)
@click.option(
    "--calibration",
    metavar="DATA",
    help="The calibration data, for a certificate made with `analyze --calibration`.",
)
@click.option(
    "--transfer",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=(
        "The other network's certificate, for one made with `analyze --transfer`; a re-training"
        " has it."
    ),
)
@click.option(
    "--device",
    metavar="PROFILE",
    help="The device profile. Default: the shipped one of the name that the certificate states.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="The policy file that the verdict was given against.",
)
@click.option(
    "--redraw",
    type=count("redraw", least=0),
    default=30,
    show_default=True,
    help="Trials to draw again and compare; of a sweep at every tolerance.",
)
@click.option(
    "--reviewer-seed",
    type=count("reviewer-seed", least=0),
    help="Chooses those trials and starts the search. Default: a random one, which is named.",
)
@click.option(
    "--search",
    type=click.Choice(["quick", "standard", "thorough"]),
    help="Search again independently: this alone refutes a tame witness.",
)
@click.option(
    "--rerun", is_flag=True, help="Run the whole analysis again and compare every number."
)
@click.option(
    "--workers",
    type=count("workers"),
    help="Threads; results do not depend on it. Default: all processors.",
)
@time_limit_option
@allow_code_option
@json_option
def command(
    directory: Path,
    model: Path | None,
    data: str | None,
    labels_of: Path | None,
    calibration: str | None,
    transfer: Path | None,
    device: str | None,
    policy: Path | None,
    redraw: int,
    reviewer_seed: int | None,
    search: str | None,
    rerun: bool,
    workers: int | None,
    as_json: bool,
) -> int:
    """Derive the claims of the certificate, sweep or re-training in DIR again, and say which hold.

    Its files alone are checked first. With --model and --data every number that follows from them
    is derived again, and some chips are drawn
    again. Exit code 0: all that was checked holds. 6: something is refuted.
    """
    from cimrobust.cli.progress_bars import TerminalProgress
    from cimrobust.review.checking import replay

    with TerminalProgress() as progress:
        checks = replay(
            directory,
            model=model,
            data=data,
            labels_of=labels_of,
            calibration=calibration,
            transfer=transfer,
            device=device,
            policy=policy,
            redraw=redraw,
            reviewer_seed=reviewer_seed,
            search=search,
            rerun=rerun,
            workers=workers,
            progress=progress,
        )
    refuted = sum(check.held is False for check in checks)
    if as_json:
        click.echo(json.dumps([check.to_dict() for check in checks], indent=2))
    else:
        for check in checks:
            click.echo(f"{_mark(check.held):<14}{check.id:<40} {check.detail}")
        held = sum(check.held is True for check in checks)
        click.echo(
            f"{held} claims hold, {refuted} refuted, {len(checks) - held - refuted} not checked"
        )
    return EXIT_REFUTED if refuted else 0


def _mark(held: bool | None) -> str:
    return {True: "holds", False: "REFUTED", None: "not checked"}[held]
