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
    device_option,
    digital_option,
    json_option,
    model_argument,
    tolerance_option,
)

_WORDS = {"digital": "stay digital", "tighter": "verify more tightly"}


@click.command(
    "suggest",
    cls=ExampleCommand,
    examples=(
        "cimrobust suggest model.onnx --data data.toml --policy policy.toml --out protected.toml",
    ),
)
@model_argument
@click.option(
    "--data", required=True, metavar="DATA", help="Evaluation data, as for `cimrobust analyze`."
)
@click.option(
    "--policy",
    required=True,
    type=click.Path(path_type=Path),
    help="Policy (TOML) that is to be met.",
)
@device_option
@tolerance_option
@digital_option
@click.option(
    "--protect",
    type=click.Choice(["both", "digital", "tighter"]),
    default="both",
    show_default=True,
    help="How layers may be protected: kept digital, or verified more tightly.",
)
@click.option(
    "--tighten",
    type=click.FloatRange(0, 1),
    metavar="TOLERANCE",
    help=(
        "Tolerance of devices that are verified more tightly, fraction of the conductance range."
        " Default: a tenth of what their layer has."
    ),
)
@click.option(
    "--most-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of all devices that may be protected.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Profile (TOML) to write, with the rules of the best set.",
)
@click.option(
    "--effort",
    type=click.Choice(["quick", "standard", "thorough"]),
    default="standard",
    show_default=True,
    help="Of the attacks on every set, and of the searches that confirm the last.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of every random number.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Threads; results do not depend on it. Default: all processors.",
)
@click.option("--limit", type=click.IntRange(1), help="Use the first N samples only.")
@click.option(
    "--calibration",
    metavar="DATA",
    help="Data that converters take their ranges from, as for `cimrobust analyze`.",
)
@click.option(
    "--device-type",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where gradients are computed.",
)
@json_option
def command(model: Path, as_json: bool, **settings: Any) -> int:
    """Find the smallest set of layers of MODEL that must be protected to meet a policy.

    Protected layers stay digital or are verified more tightly. The size of a set is its number of
    devices.

    Every set is attacked, from the worst chips of the sets before; the last is confirmed by full
    searches, and printed as options of `cimrobust analyze`.

    Exit code 0: a set was found, or nothing has to be protected. 3: no set that was tried meets the
    policy.
    """
    from cimrobust.cli.progress_bars import TerminalProgress
    from cimrobust.pipeline.suggesting import suggest

    with TerminalProgress() as progress:
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
