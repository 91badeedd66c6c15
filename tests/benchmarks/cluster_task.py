"""A task that costs nothing, in a module that workers can import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class OpensNothing:
    """How a worker of this benchmark opens its subject."""

    def open(self) -> str:
        return "nothing"


@dataclass(frozen=True)
class Echo:
    """Returns every item."""

    def on(self, subject: object) -> Callable[[int], int]:
        return lambda item: item
