"""Settings of `cimrobust verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cimrobust.option import Option


@dataclass(frozen=True, kw_only=True)
class VerifySettings:
    """Which devices are verified more tightly, and how."""

    shares: Annotated[Sequence[float], Option(metavar="SHARE,...")] = (
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
    )
    """Shares of all devices to verify more tightly, ascending."""
    tighter: Annotated[float, Option(above=1)] = 10.0
    """How many times tighter."""
    write_sigma: Annotated[float, Option(above=0)] = 0.1
    """Spread of one write as a fraction of the range, for the number of writes."""
    cluster: Annotated[str | None, Option(metavar="WHERE", is_stated=False)] = None
    """Where rankings are attacked, as for `analyze`. Results do not depend on it.
    Default: the threads of this process."""
