"""`cimrobust suggest`.

Which layers must stay digital, or be verified more tightly, to meet a policy.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cimrobust.cli.command_help import ExampleCommand
from cimrobust.cli.options import (
    data_option,
    json_option,
    model_argument,
    progress_option,
)
from cimrobust.cli.setting_options import setting_options
from cimrobust.settings.commands import SUGGEST

_WORDS = {"digital": "stay digital", "tighter": "verify more tightly"}


@click.command(
    "suggest",
    cls=ExampleCommand,
    examples=(
        "cimrobust suggest model.onnx --data data.toml --policy policy.toml --out protected.toml",
    ),
)
@model_argument
@data_option()
@click.option(
    "--policy",
    required=True,
    type=click.Path(path_type=Path),
    help="Policy (TOML) that is to be met.",
)
@setting_options(SUGGEST)
@progress_option
@json_option
def command(model: Path, as_json: bool, **settings: Any) -> int:
    """Find the smallest set of layers of MODEL, by devices, to protect so that a policy is met.

    A protected layer stays digital, or is verified more tightly.

    Every set is attacked, from the worst chips of the sets before; the last is confirmed by full
    searches, and printed as options of `cimrobust analyze`.

    Exit code 0: a set was found, or nothing has to be protected. 3: no set that was tried meets the
    policy.
    """
    from cimrobust.cli.shown_progress import shown_progress
    from cimrobust.pipeline.suggesting import suggest

    with shown_progress() as progress:
        found = suggest(model, progress=progress, **settings)
    if as_json:
        click.echo(json.dumps(found.data, indent=2))
    else:
        _print(found.data)
    return found.exit_code


def _print(data: Mapping[str, Any]) -> None:
    click.echo(
        f"{'worst chip found':<22}{data['unprotected_score']:.4f} with no layer protected,"
        f" {data['clean']['quantised_score']:.4f} without deviation"
    )
    if data["unprotected_missed"] is None:
        click.echo("The policy is met without any protection.")
        return
    click.echo(f"{'missed':<22}{data['unprotected_missed']}")
    _print_tried(data["tried"])
    for kind in ("digital", "tighter"):
        _print_set(kind, data[kind], data[f"{kind}_reason"], data["total_devices"])
    if data["command"] is not None:
        click.echo(f"{'to confirm':<22}{data['command']}")


def _print_tried(rows: list[Mapping[str, Any]]) -> None:
    click.echo(f"{'protection':<12}{'devices':>9}  {'score':<9}{'':<10}layers")
    for row in rows:
        score = "-" if row["score"] is None else f"{row['score']:.4f}"
        layers = ", ".join(row["layers"]) or "none"
        click.echo(
            f"{row['protection']:<12}{100 * row['share']:>7.2f} % "
            f" {score:<9}{'meets' if row['met'] else 'misses':<10}{layers} ({row['how']})"
        )


def _print_set(kind: str, found: Mapping[str, Any] | None, reason: str, total: int) -> None:
    if found is None:
        click.echo(f"{_WORDS[kind]:<22}{reason}")
        return
    claim = (
        "every set with fewer devices was refuted"
        if found["is_smallest"]
        else "none of these layers can be left out"
    )
    click.echo(
        f"{_WORDS[kind]:<22}{', '.join(found['layers'])}: {100 * found['share']:.3g} % of {total:,}"
        f" devices; worst chip found then {found['score']:.4f} ({claim})"
    )
    click.echo(f"{'options':<22}{shlex.join(found['options'])}")
    if kind == "tighter":
        click.echo(
            f"{'rules':<22}which that profile has behind those of the one given here; --protect"
            " tighter --out FILE writes it"
        )
        click.echo("\n".join(f"    {line}" for line in found["rules"].rstrip().splitlines()))
