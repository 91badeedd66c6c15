"""Defaults of a project: what `cimrobust.toml` sets for the options of commands.

The command line comes before the file, and the file before the tool's own defaults. What a run used
is stated in its result, wherever it came from.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from cimrobust.errors import UsageError

SHARED = "defaults"

# Leave to run code is given by a person, with the command, and never by a file that may have come
# with a model; a run that goes on is another than the first one.
_NEVER = frozenset({"allow-code", "resume", "help", "open"})
# Options that commands share beside their settings, see `cli.options`.
_BESIDE_SETTINGS = frozenset({"data", "out", "time-limit", "memory", "progress"})


class ProjectDefaults:
    """The sections of one `cimrobust.toml`.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, sections: Mapping[str, Any]) -> None:
        self.path = path
        self._sections = sections

    def of(self, command: click.Command, name: str) -> dict[str, Any]:
        """Return the defaults of one command, by the names of its parameters.

        Paths are relative to the folder of the file.

        Raises:
            UsageError: Its section names an option that the command does not have, or a value is
                none that the option takes.
        """
        options = {
            _named(option): option
            for option in command.params
            if isinstance(option, click.Option) and _named(option) not in _NEVER
        }
        own, shared = self._section(name), self._section(SHARED)
        for key in own:
            if key not in options:
                raise UsageError(self._unknown(key, name, options))
        given = {
            **{key: (SHARED, value) for key, value in shared.items() if key in options},
            **{key: (name, value) for key, value in own.items()},
        }
        return {
            str(options[key].name): self._value(options[key], value, f"{section}.{key}")
            for key, (section, value) in given.items()
        }

    def check_sections(self, known: Mapping[str, Any]) -> None:
        """Raise UsageError for a section that is no command, or shared keys that nothing takes."""
        for name, section in self._sections.items():
            if name not in known and name != SHARED:
                near = difflib.get_close_matches(name, [*known, SHARED], n=1, cutoff=0.0)
                raise UsageError(
                    f"section must be a command or [{SHARED}], got [{name}] ({self.path}); the"
                    f" nearest known one is [{near[0]}]"
                )
            if not isinstance(section, Mapping):
                raise UsageError(
                    f"section must be a table of options, got {name} = {section!r} ({self.path});"
                    f" write [{name}] and below it option = value"
                )
        self._check_shared()

    def _check_shared(self) -> None:
        from cimrobust.settings.commands import COMMANDS

        settings = (one for command in COMMANDS.values() for one in command.settings.values())
        known = {setting.option_name for setting in settings if setting.option.is_option}
        known = (known | _BESIDE_SETTINGS) - _NEVER
        for key in self._section(SHARED):
            if key not in known:
                raise UsageError(self._unknown(key, SHARED, known))

    def _section(self, name: str) -> Mapping[str, Any]:
        return {key.replace("_", "-"): value for key, value in self._sections.get(name, {}).items()}

    def _unknown(self, key: str, section: str, known: Iterable[str]) -> str:
        near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
        hint = f"; the nearest known one is '{near[0]}'" if near else ""
        return (
            f"key must be an option that a file may set, got '{section}.{key}' ({self.path}){hint}"
        )

    def _value(self, option: click.Option, value: Any, key: str) -> Any:
        """Return a value as the option would be given it, paths from the folder of the file."""
        try:
            parts = value if isinstance(value, list) else [value]
            is_table = isinstance(value, Mapping) and option.multiple
            if not is_table and any(isinstance(part, Mapping | list) for part in parts):
                raise click.BadParameter("a table or a list of lists is no value of it.")
            given = self._given(option, value)
            if option.is_flag != isinstance(value, bool):
                raise click.BadParameter("true or false is for options that take no value.")
            option.type_cast_value(click.Context(click.Command("check")), given)
        except click.BadParameter as error:
            raise UsageError(
                f"key must have a value that --{key.partition('.')[2]} takes, got"
                f" '{key}' = {value!r}: {error.message} ({self.path})"
            ) from error
        return given

    def _given(self, option: click.Option, value: Any) -> Any:
        """Return a list of values, a table of name and number, or one value, as click reads it."""
        if isinstance(value, Mapping):
            return [f"{name}={number}" for name, number in value.items()]
        if isinstance(value, list) and not option.multiple:
            return ",".join(str(part) for part in value)
        if option.multiple:
            parts = value if isinstance(value, list) else [value]
            return [self._placed(option, part) for part in parts]
        return self._placed(option, value)

    def _placed(self, option: click.Option, value: Any) -> Any:
        names_file = isinstance(option.type, click.Path) or option.name in ("data", "device")
        if not names_file or not isinstance(value, str):
            return value
        beside = self.path.parent / value
        # `--data module:function` and the name of a profile that is shipped name no file.
        is_path = isinstance(option.type, click.Path) or beside.exists()
        return str(beside) if is_path and not Path(value).is_absolute() else value


def read(path: Path, known: Mapping[str, Any]) -> ProjectDefaults:
    """Read a file of defaults.

    Raises:
        UsageError: It cannot be read, or has a section that is no command.
    """
    from cimrobust.settings_file import parse_toml

    defaults = ProjectDefaults(path, parse_toml(path, what="project defaults"))
    defaults.check_sections(known)
    return defaults


def _named(option: click.Option) -> str:
    """Return an option as it is written, without its dashes."""
    return max(option.opts, key=len).lstrip("-")
