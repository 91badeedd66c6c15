"""Settings of `cimrobust replay`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cimrobust.option import Option
from cimrobust.run import EFFORTS


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """What is at hand beside the result, and how much is computed again."""

    model: Annotated[str | Path | None, Option(path="any", takes="ModelLike")] = None
    """The certified network; of a re-training the one before it. Default: what needs it is not
    checked."""
    data: Annotated[str | Path | None, Option(metavar="DATA", takes="DataLike")] = None
    """The evaluation data. Default: scores are not checked."""
    labels_of: Annotated[
        str | Path | None, Option(metavar="MODEL", path="any", takes="ModelLike")
    ] = None
    """The network whose decisions are the labels, for a certificate made with ``analyze
    --labels-of``."""
    calibration: Annotated[str | Path | None, Option(metavar="DATA", takes="DataLike")] = None
    """The calibration data, for a certificate made with ``analyze --calibration``."""
    transfer: Annotated[
        str | Path | None, Option(metavar="DIR", path="any", takes="FolderLike")
    ] = None
    """The other network's certificate, for one made with ``analyze --transfer``; a re-training has
    it."""
    device: Annotated[str | Path | None, Option(metavar="PROFILE", takes="DeviceLike")] = None
    """The device profile. Default: the shipped one of the name that the certificate states."""
    policy: Annotated[str | Path | None, Option(path="any", takes="PolicyLike")] = None
    """The policy file that the verdict was given against. Default: its digest is not compared."""
    redraw: Annotated[int, Option(least=0)] = 30
    """Trials to draw again and compare; of a sweep at every tolerance."""
    reviewer_seed: Annotated[int | None, Option(least=0)] = None
    """Chooses those trials and starts the search. Default: a random one, which is named."""
    search: Annotated[str | None, Option(choices=EFFORTS)] = None
    """Effort of an independent search: this alone refutes a tame witness. Default: none."""
    rerun: bool = False
    """Run the whole analysis again and compare every number."""
    cluster: Annotated[str | None, Option(metavar="WHERE")] = None
    """Where chips are drawn and samples certified again, as for `analyze`. Results do not depend on
    it. Default: the threads of this process."""
