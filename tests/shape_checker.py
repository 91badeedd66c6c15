"""What checks annotations at run time in the run with shapes; see `tests/conftest.py`."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Collection, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from io import BufferedIOBase
from types import ModuleType
from typing import IO, Any

from beartype import BeartypeConf, FrozenDict, beartype

check = beartype(
    conf=BeartypeConf(
        # An int is a float, as PEP 484 has it and mypy does.
        is_pep484_tower=True,
        # What a zip file opens is an `IO[bytes]` to mypy alone.
        hint_overrides=FrozenDict({IO[bytes]: IO[bytes] | BufferedIOBase}),
    )
)


class TypesToo(MetaPathFinder):
    """Lets modules import what only their annotations name, so that these can be checked."""

    def __init__(self, packages: Collection[str]) -> None:
        self.packages = tuple(packages)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of the finders behind this one; what it loads is told."""
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        # Those that Python brings along have one loader for all, a class.
        if spec is not None and spec.loader is not None and not isinstance(spec.loader, type):
            wanted = any(name == one or name.startswith(f"{one}.") for one in self.packages)
            spec.loader.exec_module = _told(spec.loader.exec_module, wanted)  # type: ignore[method-assign]
        return spec


def _told(load: Callable[[ModuleType], Any], wanted: bool) -> Callable[[ModuleType], None]:
    def loaded(module: ModuleType) -> None:
        before = typing.TYPE_CHECKING
        typing.TYPE_CHECKING = wanted  # type: ignore[misc]
        try:
            load(module)
        finally:
            typing.TYPE_CHECKING = before  # type: ignore[misc]

    return loaded
