"""Settings of `cimrobust suggest`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cimrobust.option import Option

#: Ways of protecting a layer that are tried.
PROTECT = ("both", "digital", "tighter")


@dataclass(frozen=True, kw_only=True)
class SuggestSettings:
    """How layers may be protected, and how many."""

    protect: Annotated[str, Option(choices=PROTECT)] = "both"
    """How layers may be protected: kept digital, or verified more tightly."""
    tighten: Annotated[float | None, Option(metavar="TOLERANCE", least=0, most=1)] = None
    """Tolerance of devices that are verified more tightly, fraction of the conductance range.
    Default: a tenth of what their layer has."""
    most_share: Annotated[float, Option(above=0, most=1)] = 1.0
    """Share of all devices that may be protected."""
    out: Annotated[str | Path | None, Option(metavar="FILE", path="file", is_stated=False)] = None
    """Profile (TOML) to write, with the rules of the best set."""
    cluster: Annotated[str | None, Option(metavar="WHERE", is_stated=False)] = None
    """Where chips are scored and samples certified, as for `analyze`. Results do not depend on it.
    Default: the threads of this process."""
