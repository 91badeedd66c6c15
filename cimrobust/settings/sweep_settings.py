"""Settings of `cimrobust sweep`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cimrobust.option import Option


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """What a sweep does at every tolerance."""

    trials: int | None = None
    """Chips to draw at every tolerance. Default: 300, 1000 or 3000 by effort."""
    require: Annotated[float | None, Option(metavar="SCORE")] = None
    """Score that a chip has to reach (an error it may not exceed): look by bisection for the
    largest tolerance at which that is unrefuted, statistically met, certified."""
    witnesses: bool = False
    """Write the worst chip of every tolerance too, under witness/."""
    resume: Annotated[bool, Option(is_stated=False)] = False
    """Go on where an interrupted run of the same command stopped."""
    cluster: Annotated[str | None, Option(metavar="WHERE", is_stated=False)] = None
    """Where chips are scored and samples certified, as for `analyze`. Results do not depend on it.
    Default: the threads of this process."""
