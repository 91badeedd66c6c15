"""What is examined, as a user names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cimrobust.option import Option


@dataclass(frozen=True)
class SubjectSettings:
    """A model, its data and its devices, before anything is loaded."""

    model: str | Path
    """ONNX file."""
    data: str | Path
    """Data description, .npz, .csv, .parquet, .arrow, .feather, folder of ONNX test data, or
    ``module:function``."""
    device: Annotated[
        str | Path, Option(metavar="PROFILE", takes="DeviceLike", is_stated=False)
    ] = "rram-write-verify-3pct"
    """Device profile: a shipped name (see ``cimrobust devices list``) or a TOML file."""
    tolerance: Annotated[float | None, Option(least=0, most=1)] = None
    """Write-verify tolerance as a fraction of the conductance range, in place of the profile's."""
    digital: Annotated[Sequence[str], Option(metavar="PATTERN")] = ()
    """Layers that stay digital beside those of the profile: an initializer or node name, * and ? as
    in a shell; may be given several times."""
    calibration: Annotated[str | Path | None, Option(metavar="DATA", takes="DataLike")] = None
    """Data that converters take their ranges from, for profiles with converters. Default: the
    description's train_file, else samples held out from `data`."""
    labels_of: Annotated[
        str | Path | None, Option(metavar="MODEL", path="any", takes="ModelLike")
    ] = None
    """Network whose clean decisions are the labels of data that have none. Default: the model
    itself."""
    limit: int | None = None
    """Use the first so many samples only."""
