"""Options of the command line, made from the settings of a command."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cimrobust.counts import largest
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.settings.commands import Command
    from cimrobust.settings.described_settings import DescribedSetting

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_QUOTED = re.compile(r"``([^`]+)``")
_NAMED = re.compile(r"(?<!`)`(\w+)`(?!`)")


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
    """A number from 0 to 1; above 0 where the range is open."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not 0 <= number <= 1 or (self.is_open and number == 0):
            self.fail(
                f"{value} is not in the range 0<{'' if self.is_open else '='}x<=1.", param, ctx
            )
        return number


class Numbers(click.types.StringParamType):
    """Numbers separated by commas."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read them; a value that is none any more stays as it is."""
        if not isinstance(value, str):
            return value
        try:
            return tuple(float(part) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(
                f"must be numbers separated by commas, got '{value}'; e.g. 0.005,0.01,0.03",
                param,
                ctx,
            )


def setting_options(command: Command, *, only: Collection[str] | None = None) -> Decorator:
    """Return a decorator that adds options for the settings of a command, in their order.

    Args:
        command: Whose settings they are.
        only: Names of those that get one; None: all.
    """

    def with_options(function: Callable[..., Any]) -> Callable[..., Any]:
        for setting in reversed(tuple(command.settings.values())):
            if setting.option.is_option and (only is None or setting.name in only):
                function = _option(setting, command)(function)
        return function

    return with_options


def _option(setting: DescribedSetting, command: Command) -> Decorator:
    flag = f"--{setting.option_name}"
    names = (f"{flag}/--no-{setting.option_name}" if setting.default is True else flag,)
    return click.option(
        *names,
        setting.name,
        help=_help(setting.text, command),
        metavar=setting.option.metavar,
        **dict(_kind(setting)),
    )


def _kind(setting: DescribedSetting) -> Iterator[tuple[str, Any]]:
    """Yield what click has to know of type and default."""
    if setting.kind is bool:
        yield "is_flag", True
        yield "default", setting.default
        yield "show_default", setting.default
        return
    yield "type", _type(setting)
    if setting.entry is str or setting.kind is Mapping:
        yield "multiple", True
    elif setting.entry is float:
        yield "default", ",".join(f"{number:g}" for number in setting.default)
        yield "show_default", True
    elif setting.default is not None:
        yield "default", setting.default
        yield "show_default", True
    if setting.kind is Mapping:
        yield "callback", _pairs


def _type(setting: DescribedSetting) -> click.ParamType[Any] | None:
    """Return the type of a value; None: any text."""
    option = setting.option
    if option.choices:
        return click.Choice(option.choices)
    if option.path is not None:
        return click.Path(
            path_type=Path, file_okay=option.path != "folder", dir_okay=option.path != "file"
        )
    if setting.entry is float:
        return Numbers()
    if setting.kind is int:
        return count(setting.option_name, least=setting.least)
    if setting.kind is float:
        return NUMBER if option.most is None else _Fraction(is_open=option.above is not None)
    return None


def _help(text: str, command: Command) -> str:
    """Return a docstring as help: what it names in backticks is an option here."""

    def as_option(found: re.Match[str]) -> str:
        setting = command.settings.get(found[1])
        return f"--{setting.option_name if setting else found[1].replace('_', '-')}"

    return _QUOTED.sub(_quoted, _NAMED.sub(as_option, text))


def _quoted(found: re.Match[str]) -> str:
    """Return a value as it is, and a command line in quotes that show where it ends."""
    return f"`{found[1]}`" if " " in found[1] else found[1]


def _pairs(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, float | str]:
    """Read settings that are given as name=number; a version is a word."""
    values: dict[str, float | str] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name.strip() == "version" and number.strip():
            values["version"] = number.strip()
            continue
        try:
            values[name.strip()] = float(number)
        except ValueError as err:
            raise UsageError(
                f"setting of a method must be name=number, got '{text}' ({parameter.opts[0]});"
                " write e.g. --set sigma=0.05"
            ) from err
    return values
