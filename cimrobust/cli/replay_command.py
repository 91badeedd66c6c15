"""`cimrobust replay`: somebody else's certificate, sweep or re-training, checked again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    allow_code_option,
    certificate_argument,
    json_option,
    progress_option,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.settings.commands import REPLAY

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
@setting_options(REPLAY)
@allow_code_option
@progress_option
@json_option
def command(directory: Path, as_json: bool, **settings: Any) -> int:
    """Derive the claims of the certificate, sweep or re-training in DIR again, and say which hold.

    Its files alone are checked first. With --model and --data every number that follows from them
    is derived again, and some chips are drawn again. Exit code 0: all that was checked holds. 6:
    something is refuted.
    """
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.printable_text import printable
    from cimrobust.review.replaying import replay

    with shown_progress() as progress:
        checks = replay(directory, progress=progress, **settings)
    refuted = sum(check.held is False for check in checks)
    if as_json:
        click.echo(json.dumps([check.to_dict() for check in checks], indent=2))
    else:
        for check in checks:
            # Names of files and layers are somebody else's: none may write a line of its own.
            line = f"{printable(check.id):<40} {printable(check.detail)}"
            click.echo(f"{_mark(check.held):<14}{line}")
        held = sum(check.held is True for check in checks)
        click.echo(
            f"{held} claims hold, {refuted} refuted, {len(checks) - held - refuted} not checked"
        )
    return EXIT_REFUTED if refuted else 0


def _mark(held: bool | None) -> str:
    return {True: "holds", False: "REFUTED", None: "not checked"}[held]
