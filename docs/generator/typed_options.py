"""The keywords of the Python functions as types, which type checkers read."""

from __future__ import annotations

from collections.abc import Iterator

from cimrobust.settings.commands import COMMANDS, Command
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


def page() -> str:
    """Return the module of types."""
    return _HEAD + "".join("\n".join(_table(command)) for command in COMMANDS.values())


def _table(command: Command) -> Iterator[str]:
    name = command.name.capitalize()
    yield f"\n\nclass {name}Options(TypedDict, total=False):"
    yield f'    """Settings of `cimrobust.{command.name}` by keyword."""\n'
    for setting in command.settings.values():
        yield f"    {setting.name}: {annotation_text(setting)}"
    yield ""
