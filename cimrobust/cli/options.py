"""Options that several commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cimrobust.counts import largest

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DEFAULT_DEVICE = "rram-write-verify-3pct"

model_argument = click.argument("model", type=click.Path(path_type=Path))
certificate_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
device_option = click.option(
    "--device",
    default=DEFAULT_DEVICE,
    show_default=True,
    metavar="PROFILE",
    help="Device profile: a shipped name (see `cimrobust devices list`) or a TOML file.",
)


def count(name: str, *, least: int = 1) -> click.IntRange:
    """Return the type of a whole number, named as its option is.

    From `least` to the largest that a run takes.
    """
    return click.IntRange(least, largest(name))


class _Number(click.types.FloatParamType):
    """A finite number: comparisons with NaN are false, so that it would pass for anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


NUMBER = _Number()


class _Fraction(_Number):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not 0 <= number <= 1:
            self.fail(f"{value} is not in the range 0<=x<=1.", param, ctx)
        return number


tolerance_option = click.option(
    "--tolerance",
    type=_Fraction(),
    help=(
        "Write-verify tolerance as a fraction of the conductance range, in place of the profile's."
    ),
)
digital_option = click.option(
    "--digital",
    multiple=True,
    metavar="PATTERN",
    help=(
        "Layers that stay digital: an initializer or node name, * and ? as in a shell; may be given"
        " several times."
    ),
)


def _time_limit(context: click.Context, parameter: click.Parameter, value: float | None) -> None:
    if value is not None:
        from cimrobust.engine.watchdog import time_limit

        context.with_resource(time_limit(value))


time_limit_option = click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    expose_value=False,
    callback=_time_limit,
    help=(
        "Longest that one run of the model on one batch may take, against loops without end."
        " Default: 600."
    ),
)


def _allow_code(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from cimrobust.data.user_code import code_allowed

        context.with_resource(code_allowed())


allow_code_option = click.option(
    "--allow-code",
    is_flag=True,
    expose_value=False,
    callback=_allow_code,
    help=(
        'Run code that a data description names (file = "module:function"); on the command line it'
        " needs no leave."
    ),
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the machine-readable result alone."
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how much work to do and how."""
    options: tuple[Decorator, ...] = (
        click.option(
            "--effort",
            type=click.Choice(["quick", "standard", "thorough"]),
            default="standard",
            show_default=True,
            help="How much to search, and how many chips to draw.",
        ),
        click.option(
            "--trials",
            type=count("trials"),
            help="Chips to draw; default 300, 1000 or 10000 by effort.",
        ),
        click.option(
            "--seed",
            type=count("seed", least=0),
            default=0,
            show_default=True,
            help="Seed of every random number.",
        ),
        click.option(
            "--workers",
            type=count("workers"),
            help="Threads; results do not depend on it. Default: all processors.",
        ),
        click.option("--limit", type=count("limit"), help="Use the first N samples only."),
        click.option(
            "--resume",
            is_flag=True,
            help="Go on where an interrupted run of the same command stopped.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
