"""What long commands print on stderr with `--progress json`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cimrobust.certificate.models.printed_base import Printed
from cimrobust.records import Count


class ProgressOutput(Printed):
    """One line of what long commands print on stderr with `--progress json`."""

    NAME = "progress-output"

    event: Literal["begin", "running", "end"]
    """A stage begins, a stage is running (once a minute), or a stage ended."""
    time: Annotated[float, Field(ge=0)]
    """Seconds since the command began."""
    stage: str
    """What is done, as a progress bar is called; commands run one stage after the other."""
    done: Count
    """Steps of the stage that are done. A stage may end early, with fewer steps than its total."""
    total: Count
    """Steps that the stage takes at most, as far as it is known when it begins."""
    seconds_left: Annotated[float, Field(ge=0)] | None
    """Seconds that the stage still takes if it goes on as it did; null: it cannot be told yet, or
    the stage ended."""
    note: str
    """Short state, such as the best score so far; may be empty."""
