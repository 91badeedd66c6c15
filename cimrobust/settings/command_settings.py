"""Settings of single commands; those of an analysis and of training have files of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cimrobust.option import Option
from cimrobust.run import EFFORTS

#: Ways of protecting a layer that are tried.
PROTECT = ("both", "digital", "tighter")


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
