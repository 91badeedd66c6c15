"""Arrays by name that are made when somebody asks for them.

The weights of a large network are needed one tensor after the other: what draws, saves or hands
them over has no use for all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from cimrobust.array_shapes import Shaped


class LateArrays(Mapping[str, Shaped[np.ndarray, "..."]]):
    """A mapping that holds no array: each is made anew whenever it is read."""

    def __init__(
        self, names: Iterable[str], make: Callable[[str], Shaped[np.ndarray, "..."]]
    ) -> None:
        """Take the names in their order, and what makes an array; safe to call from threads."""
        self._names, self._make = dict.fromkeys(names), make

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "..."]:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
