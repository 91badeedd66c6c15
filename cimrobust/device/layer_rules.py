"""Rules of a profile for single layers: which stay digital, and which have devices of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from cimrobust.device.core_tables import DeviceTable, TileTable, WeightTable
from cimrobust.device.table_types import Flag, Listed, Table, Text, Whole

#: Where rules of the command line come from.
DIGITAL_OPTION = "--digital"


@dataclass(frozen=True)
class LayerSelector(Table):
    """Which layers a rule is for: exactly one of `match`, `operator` and `position` says it."""

    match: Annotated[Text, Field(min_length=1, max_length=1000)] | None = None
    """Pattern of the name of an initializer, or of a node that reads it: `*`, `?` and `[abc]` as
    in a shell."""
    operator: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    """Operator that reads the initializer; of other domains `domain::Op`."""
    position: Annotated[tuple[Whole, Whole], Listed(2, 2)] | None = None
    """First and last of a range of crossbar layers, in graph order from 0; negative numbers count
    from the end."""
    digital: Flag | None = None
    """The layers stay digital, with the weights of the file. `false` takes them back from an
    earlier rule."""
    source: Annotated[Text, Field(max_length=2000)] = ""
    """Where the rule comes from."""

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


@dataclass(frozen=True)
class LayerRule(LayerSelector):
    """One rule, its tables complete.

    Of all rules that a layer fits, the last decides, alone: what it leaves out is taken from the
    profile's own tables, not from other rules.
    """

    digital: bool = False
    """The layers stay digital, with the weights of the file."""
    weight: WeightTable | None = None
    """Coding of their weights, complete; None: the profile's."""
    device: DeviceTable | None = None
    """Precision of their devices, complete; None: the profile's."""
    tile: TileTable | None = None
    """Their arrays, complete; None: the profile's."""
