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
        loader = None if spec is None else spec.loader
        # Those that Python brings along have one loader for all, a class; rewritten tests have one
        # too, which is told once.
        if not (loader is None or isinstance(loader, type) or hasattr(loader.exec_module, "told")):
            loader.exec_module = self._told(loader.exec_module)  # type: ignore[method-assign]
        return spec

    def _told(self, load: Callable[[ModuleType], Any]) -> Callable[[ModuleType], None]:
        def loaded(module: ModuleType) -> None:
            before, name = typing.TYPE_CHECKING, module.__name__
            typing.TYPE_CHECKING = any(  # type: ignore[misc]
                name == one or name.startswith(f"{one}.") for one in self.packages
            )
            try:
                load(module)
            finally:
                typing.TYPE_CHECKING = before  # type: ignore[misc]

        loaded.told = True  # type: ignore[attr-defined]
        return loaded
