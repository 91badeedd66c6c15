"""Functions whose signature and docstring list the settings that they take."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from cimrobust.settings.commands import Command
    from cimrobust.settings.described_settings import DescribedSetting

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
_WIDTH = 92
_SHARED = (
    "settings: Settings by name, or one of the models of this command; keywords come first.",
    "run: How to compute, in place of keywords such as `seed`, `workers`, `effort`, `memory` and"
    " `progress`.",
)
_MODULE = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])")


def takes_settings(command: Command) -> Callable[[FunctionT], FunctionT]:
    """Return a decorator that writes a command's settings into signature and docstring.

    The function takes them as ``**options``; behind its own arguments it names ``settings`` and
    ``run``, which are described here too.
    """

    def described_function(function: FunctionT) -> FunctionT:
        function.__doc__ = _docstring(inspect.getdoc(function) or "", command)
        function.__signature__ = _signature(function, command)  # type: ignore[attr-defined]
        return function

    return described_function


def setting_text(setting: DescribedSetting) -> str:
    """Return what a setting means, with the values that it may have."""
    if not setting.option.choices:
        return setting.text
    *first, last = (f"``{choice}``" for choice in setting.option.choices)
    return f"{setting.text.rstrip('.')}: {', '.join(first)} or {last}."


def _docstring(text: str, command: Command) -> str:
    """Return a docstring of Google style with the settings behind the arguments."""
    head, args, rest = text.partition("\n\nArgs:\n")
    own, gap, behind = rest.partition("\n\n")
    entries = "\n".join(_entries(command))
    return f"{head}{args}{own}\n{entries}{gap}{behind}"


def _entries(command: Command) -> Iterator[str]:
    for setting in command.settings.values():
        yield _entry(f"{setting.name}: {setting_text(setting)}")
    yield from map(_entry, _SHARED)


def _entry(text: str) -> str:
    lines = wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"    {lines[0]}", *(f"        {line}" for line in lines[1:])])


def _signature(function: Callable[..., Any], command: Command) -> inspect.Signature:
    """Return the signature with every setting by name, in place of ``**options``."""
    own = inspect.signature(function)
    parameters = {
        name: parameter
        for name, parameter in own.parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    last = {name: parameters.pop(name) for name in ("settings", "run")}
    settings = [
        inspect.Parameter(
            setting.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=setting.default,
            annotation=annotation_text(setting),
        )
        for setting in command.settings.values()
    ]
    return own.replace(parameters=[*parameters.values(), *settings, *last.values()])


def annotation_text(setting: DescribedSetting) -> str:
    """Return the type of a setting as written in a signature, where None means: not given."""
    if setting.option.takes is not None:
        return f"{setting.option.takes}{' | None' if setting.default is None else ''}"
    kind = setting.annotation
    text = kind.__name__ if isinstance(kind, type) else _MODULE.sub("", str(kind)).replace("'", '"')
    return f"{text} | None" if setting.default is None and "None" not in text else text
