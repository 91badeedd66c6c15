"""Types of the keys of a profile file.

A table of a profile is one frozen dataclass: its annotations are the format of the file, checked by
pydantic when a file is read, and the strings behind its fields are what the documentation says of
the keys. What the program itself makes is not checked again. A file is read strictly: text is no
number, and `true` is no 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, ConfigDict, Field, GetCoreSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema


class Table:
    """A table of a profile file, without unknown keys, infinities or NaN."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Listed:
    """Says of a tuple that the file states it as a list.

    Attributes:
        least: Fewest entries.
        most: Most entries; None: any number.
    """

    least: int = 0
    most: int | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads it: as a list, of which a tuple is made."""
        entry = handler.generate_schema(get_args(source)[0])
        read = core_schema.list_schema(
            entry, min_length=self.least or None, max_length=self.most, strict=True
        )
        return core_schema.no_info_after_validator_function(_as_tuple, read)


def _as_tuple(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(values)


def _not_tiny(value: float) -> float:
    """Refuse what is neither nothing nor anything that a device shows.

    Its square, or a quotient by it, leaves float64.
    """
    if 0 < value < 1e-12:
        raise ValueError("must be 0 or at least 1e-12 of the range")
    return value


Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Real = Annotated[float, Strict()]
Text = Annotated[str, Strict()]
Fraction = Annotated[Real, Field(ge=0, le=1), AfterValidator(_not_tiny)]
# Below a hundredth of a sigma a box holds next to no device.
Sigmas = Annotated[Real, Field(ge=0.01, le=8)]
# From a nanosecond to 30 000 years; the logarithm of their ratio is what counts, and it must not
# overflow.
Seconds = Annotated[Real, Field(ge=1e-9, le=1e12)]
Conductance = Annotated[Real, Field(ge=1e-9, le=1e9)]
Percentile = Annotated[Real, Field(gt=50, le=100)]
