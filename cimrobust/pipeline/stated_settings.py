"""What a result says of the settings that it was made with, and settings read back from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cimrobust.certificate.models.item import Setting
from cimrobust.settings.described_settings import DescribedSetting, described

if TYPE_CHECKING:
    from cimrobust.settings.commands import Command

_Value = int | float | str | bool | None


class Stated(Protocol):
    """A setting as a result states it."""

    @property
    def key(self) -> str:
        """Name of its option."""

    @property
    def value(self) -> _Value:
        """Its value; of a file the name."""


def state(
    command: Command, parts: Sequence[object], *, instead: Iterable[Setting] = ()
) -> tuple[Setting, ...]:
    """Return what a result says of how it was made.

    Args:
        command: What made it.
        parts: Its settings: objects of the models of `Command.parts`.
        instead: What is stated in place of a setting as it was given, and of arguments that are no
            settings.
    """
    values = {
        setting.name: getattr(part, setting.name)
        for part in reversed(parts)
        for setting in described(type(part))
    }
    other = {row.key: row for row in instead}
    rows: list[Setting] = []
    for name in _order(command):
        setting = command.settings.get(name)
        key = name.replace("_", "-") if setting is None else setting.option_name
        if key in other:
            rows.append(other[key])
        elif setting is not None:
            rows += _rows(setting, values[name])
    return tuple(rows)


def restored(command: Command, rows: Iterable[Stated]) -> dict[str, Any]:
    """Return the settings that a result states, by name; files by their names alone.

    What is not stated is left out, and so is a value that is not of the type of its setting: a
    result may have been written by anybody.
    """
    names = {setting.option_name: setting for setting in command.settings.values()}
    found: dict[str, Any] = {}
    for row in rows:
        setting = names.get(row.key)
        if setting is None or row.value is None:
            continue
        if setting.entry is not None:
            found.setdefault(setting.name, []).append(str(row.value))
        elif (value := _typed(setting, row.value)) is not None:
            found[setting.name] = value
    return found


def _order(command: Command) -> Iterator[str]:
    """Yield the names that are stated: first as results were published, then all others."""
    yield from command.stated_first
    for name, setting in command.settings.items():
        hidden = not setting.option.is_stated or name in command.unstated
        if not hidden and name not in command.stated_first:
            yield name


def _rows(setting: DescribedSetting, value: Any) -> Iterator[Setting]:
    """Yield a setting as results state it: a sequence one entry at a time, a file by its name."""
    key = setting.option_name
    if value == setting.default and not setting.option.is_stated_by_default:
        return
    if setting.entry is not None and value:
        yield from (Setting(key=key, value=entry, is_default=False) for entry in value)
    elif setting.entry is not None:
        yield Setting(key=key, value=None, is_default=True)
    else:
        shown = Path(value).name if value is not None and _names_file(setting) else value
        yield Setting(key=key, value=shown, is_default=value == setting.default)


def _names_file(setting: DescribedSetting) -> bool:
    return "Path" in str(setting.annotation)


def _typed(setting: DescribedSetting, value: int | float | str | bool) -> Any:
    """Return a value as the type of its setting; None where it is not of it."""
    if setting.kind is bool:
        return bool(value)
    if setting.kind in (int, float):
        is_number = isinstance(value, int | setting.kind) and not isinstance(value, bool)
        return setting.kind(value) if is_number else None
    return str(value)
