"""The keywords of the Python functions as types, which type checkers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cimrobust.settings.commands import COMMANDS, REPLAY, Command
from cimrobust.settings.documented import annotation_text

_HEAD = '''"""Keywords of the functions that take settings, for type checkers.

Made by `python docs/generate.py` from the settings models; change those, not this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from cimrobust.progress import Progress
from cimrobust.settings.python_inputs import DataLike, DeviceLike, FolderLike, ModelLike, PolicyLike
'''


#: A table of keywords and their types.
Table = Mapping[str, str]


def page() -> str:
    """Return the module of types: the smallest first, each going on from the largest it holds."""
    tables = {command.name: _table(command) for command in COMMANDS.values()}
    whole = [table for name, table in tables.items() if name != REPLAY.name]
    known = {
        "Common": ("Settings that every command takes.", _shared(tables.values())),
        "Network": ("Settings of commands that are given a network.", _shared(whole)),
    }
    for name, table in sorted(tables.items(), key=lambda entry: len(entry[1])):
        known[name.capitalize()] = (f"Settings of `cimrobust.{name}` by keyword.", table)
    return _HEAD + "".join(
        "\n".join(_lines(name, text, table, known)) for name, (text, table) in known.items()
    )


def _table(command: Command) -> Table:
    return {name: annotation_text(setting) for name, setting in command.settings.items()}


def _shared(tables: Iterable[Table]) -> Table:
    """Return the keywords that tables have in common, in the order of the first."""
    first, *others = tables
    return {name: kind for name, kind in first.items() if all(o.get(name) == kind for o in others)}


def _lines(
    name: str, text: str, table: Table, known: Mapping[str, tuple[str, Table]]
) -> Iterator[str]:
    held = {other: part for other, (_, part) in known.items() if part.items() < table.items()}
    base = max(held, key=lambda other: len(held[other]), default=None)
    stated: Table = {} if base is None else held[base]
    yield f"\n\nclass {name}Options({f'{base}Options' if base else 'TypedDict'}, total=False):"
    yield f'    """{text}"""\n'
    for key, kind in table.items():
        if key not in stated:
            yield f"    {key}: {kind}"
    yield ""
