"""Settings of `cimrobust rare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cimrobust.option import Option


@dataclass(frozen=True, kw_only=True)
class RareSettings:
    """How rare failures are estimated, and what is searched for beside."""

    particles: Annotated[int | None, Option(least=10)] = None
    """Chips of the population. Default: 100. The interval shrinks with their root."""
    budget: int | None = None
    """Chips that each repeat may evaluate. Default: 40000, enough for 1e-6."""
    repeats: int = 2
    """Independent repeats."""
    skip_most_probable: bool = False
    """Leave out the search for the most probable failing chip, whose first-order probability stands
    beside the estimate."""
    chip: Annotated[str | Path | None, Option(path="file", is_stated=False)] = None
    """Write that chip to this file (safetensors)."""
    cluster: Annotated[str | None, Option(metavar="WHERE", is_stated=False)] = None
    """Where chips are moved and scored, as for `analyze`. Results do not depend on it.
    Default: the threads of this process."""
