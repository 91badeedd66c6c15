"""Settings of `cimrobust retrain` beside those of the training itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cimrobust.option import Option


@dataclass(frozen=True, kw_only=True)
class RetrainSettings:
    """Which method trains, on what, and what is certified."""

    train_data: Annotated[
        str | Path | None, Option(name="train", metavar="DATA", takes="DataLike")
    ] = None
    """Training data, as `data`; arrays without a description are read by that of `data`. Default:
    the train_file that `data` names."""
    method: str = "cimrobust"
    """Way of training: cimrobust, a-trice, trice, trice-search, a-trice-chained, a-trice-projected,
    adversarial, awp, ibp, ibp-a-trice, noise, device-noise, clip or plain."""
    knobs: Annotated[
        Mapping[str, float | str] | None, Option(name="set", metavar="NAME=NUMBER")
    ] = None
    """Settings of the method that differ from their defaults; may be given several times. Every
    method has range and clipping; a-trice has version=v1, v2, v3, v4 or v4-as-published."""
    tuning_epochs: Annotated[int, Option(name="tune", metavar="EPOCHS", least=0)] = 0
    """Epochs that a search for the settings of the method may take first; needs the extra
    'retrain'."""
    freeze: Annotated[Sequence[str], Option(metavar="NAME")] = ()
    """Initializer to leave as it is; may be given several times."""
    drop_overlap: bool = False
    """Leave training samples out that are evaluated, in place of an error."""
    control: bool = True
    """Train and certify plain fine-tuning with the same budget, train and attack it on clipped
    weights, and measure what each part of the method gains."""
    equivalent: bool = True
    """Search for the write-verify tolerance that would buy the same gain."""
    trials: int | None = None
    """Chips that each certificate draws. Default: 300, 1000 or 10000 by effort."""
    diagnostics: Annotated[str | None, Option(metavar="all|none|NAME,...")] = None
    """Diagnostics of every certificate, as for ``cimrobust analyze``. Default:
    layers,tolerance_curve, at effort thorough all."""
    resume: Annotated[bool, Option(is_stated=False)] = False
    """Go on where an interrupted run of the same command stopped."""
    cluster: Annotated[str | None, Option(metavar="WHERE", is_stated=False)] = None
    """Where chips of the certificates are scored and samples certified, as for `analyze`. Results
    do not depend on it. Default: the threads of this process."""
