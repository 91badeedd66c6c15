"""Rules of a profile for single layers: which stay digital, and which have devices of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceTable, TileTable, WeightTable

#: Where rules of the command line come from.
DIGITAL_OPTION = "--digital"


@dataclass(frozen=True)
class LayerRule:
    """One ``[[layer]]`` table.

    Exactly one of `match`, `operator` and `position` says which layers it is for.

    Of all rules that a layer fits, the last decides, alone: what it leaves out is taken from the
    profile's own tables, not from other rules.

    Attributes:
        match: Pattern of the name of an initializer or of a node that reads it; ``*``, ``?`` and
            ``[...]`` as in a shell, upper and lower case differ. A name as it is always fits
            itself.
        operator: Operator of a node that reads the initializer, other domains as ``domain::Op``.
        position: First and last of a range of layers, both included, in graph order from 0;
            negative
            numbers count from the end, -1 is the last layer.
        digital: The layers stay digital, with the weights of the file.
        source: Where the rule comes from; empty: not stated.
        weight: Coding of their weights, complete; None: the profile's.
        device: Precision of their devices, complete; None: the profile's.
        tile: Their arrays, complete; None: the profile's.
    """

    match: str | None = None
    operator: str | None = None
    position: tuple[int, int] | None = None
    digital: bool = False
    source: str = ""
    weight: WeightTable | None = None
    device: DeviceTable | None = None
    tile: TileTable | None = None

    @property
    def selector(self) -> str:
        """Say in words which layers the rule is for."""
        if self.match is not None:
            return f"match '{self.match}'"
        if self.operator is not None:
            return f"operator {self.operator}"
        return f"position {list(self.position or ())}"

    def named(self, index: int) -> str:
        """Return the rule in words, for a reader who wants to find it.

        Args:
            index: Its place among the rules of its profile, from 0.
        """
        whose = f", {self.source}" if self.source else ""
        return f"rule {index + 1} ({self.selector}{whose})"
