"""How much of a result is computed again."""

from __future__ import annotations

from dataclasses import dataclass, field

from cimrobust.cluster.address import Address
from cimrobust.run import Run
from cimrobust.settings.command_settings import ReplaySettings


@dataclass(frozen=True)
class Depth:
    """How much of a result is computed again where model and data are at hand.

    Attributes:
        redraw: Trials to draw again.
        search: Effort of a search of the reviewer's own; None: none.
        rerun: Run the whole analysis again.
        cluster: Where chips are drawn and samples certified again; None: in the threads of this
            process.
        run: How to compute; its seed, the reviewer's, chooses the trials and starts the search.
    """

    redraw: int = ReplaySettings.redraw
    search: str | None = None
    rerun: bool = False
    cluster: Address | None = None
    run: Run = field(default_factory=Run)
