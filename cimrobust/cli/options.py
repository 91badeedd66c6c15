"""Arguments and options that commands share beside their settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cimrobust.counts import check_number

if TYPE_CHECKING:
    from cimrobust.cli.setting_options import Decorator

model_argument = click.argument("model", type=click.Path(path_type=Path))
certificate_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


def data_option(text: str = "Evaluation data, as for `cimrobust analyze`.") -> Decorator:
    """Return the option for evaluation data, which a command cannot do without."""
    return click.option("--data", required=True, metavar="DATA", help=text)


def out_folder_option(text: str) -> Decorator:
    """Return the option for the folder that a command writes, which it cannot do without."""
    return click.option(
        "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help=text
    )


# Of commands that have no other setting of how to compute; `Run` is that of all others.
def _time_limit(context: click.Context, parameter: click.Parameter, value: float | None) -> None:
    if value is not None:
        check_number("time-limit", value, above=0.0)
        from cimrobust.engine.watchdog import time_limit

        context.with_resource(time_limit(value))


time_limit_option = click.option(
    "--time-limit",
    type=float,
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

#: How a command can show how far it is.
PROGRESS_KINDS = ("auto", "bar", "lines", "json", "none")
_PROGRESS = "cimrobust.progress"


def _progress(context: click.Context, parameter: click.Parameter, value: str) -> None:
    context.meta[_PROGRESS] = value


progress_option = click.option(
    "--progress",
    type=click.Choice(PROGRESS_KINDS),
    default="auto",
    show_default=True,
    envvar="CIMROBUST_PROGRESS",
    show_envvar=True,
    expose_value=False,
    callback=_progress,
    help=(
        "How to show on stderr how far the work is: a bar; a line when a stage begins and ends and"
        " once a minute; the same as JSON (`cimrobust schema progress-output`); or nothing. auto:"
        " a bar on a terminal, else lines. It changes no result."
    ),
)


def progress_kind(context: click.Context) -> str:
    """Return how the command of a context is to show its progress."""
    return str(context.meta.get(_PROGRESS, "auto"))
