"""What results are made of.

A result is described once: as a `Record`, in the package that finds it. Its fields are validated
when it is made, it cannot be changed, and the certificate holds it as it is. The string behind a
field is its description in the published schema.

Records lie in modules of their own (`search_records.py` in `search`), which import nothing that
computes: a certificate is read and shown without the libraries that made it.

Enters: nothing. Leaves: `Record`, and types of fields.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WrapSerializer


class Record(BaseModel):
    """Base of all results: no unknown fields, no NaN, no infinity, no change."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


def finite(value: float) -> float:
    """Return a score that JSON can hold: an infinite error becomes the largest float64."""
    if math.isnan(value):
        return sys.float_info.max
    return float(min(max(value, -sys.float_info.max), sys.float_info.max))


def _finite(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _as_list(value: Any, plain: Callable[[Any], Any]) -> list[Any]:
    return list(plain(tuple(value)))


def _rounded(value: float) -> float:
    return round(value, 3)


Entry = TypeVar("Entry")

Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
#: A score; what is infinite or NaN is the largest float64.
Score = Annotated[float, BeforeValidator(_finite)]
#: A number that is null where it is infinite or NaN.
Measured = Annotated[float | None, BeforeValidator(_none_for_nan)]
#: Wall-clock seconds, to three digits.
Seconds = Annotated[float, AfterValidator(_rounded)]
#: Entries in order, a list in JSON.
Rows = Annotated[tuple[Entry, ...], BeforeValidator(_listed), WrapSerializer(_as_list)]
