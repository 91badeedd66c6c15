"""Keywords of the functions that take settings, for type checkers.

Made by `python docs/generate.py` from the settings models; change those, not this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from cimrobust.progress import Progress
from cimrobust.settings.python_inputs import DataLike, DeviceLike, FolderLike, ModelLike, PolicyLike


class CommonOptions(TypedDict, total=False):
    """Settings that every command takes."""

    cluster: str | None
    workers: int | None
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class NetworkOptions(CommonOptions, total=False):
    """Settings of commands that are given a network."""

    device: DeviceLike
    digital: Sequence[str]
    limit: int | None
    seed: int
    effort: str


class SweepOptions(NetworkOptions, total=False):
    """Settings of `cimrobust.sweep` by keyword."""

    calibration: DataLike | None
    trials: int | None
    require: float | None
    witnesses: bool
    resume: bool
    device_type: str


class VerifyOptions(NetworkOptions, total=False):
    """Settings of `cimrobust.verify` by keyword."""

    tolerance: float | None
    calibration: DataLike | None
    shares: Sequence[float]
    tighter: float
    write_sigma: float
    device_type: str


class ReplayOptions(CommonOptions, total=False):
    """Settings of `cimrobust.replay` by keyword."""

    model: ModelLike | None
    data: DataLike | None
    labels_of: ModelLike | None
    calibration: DataLike | None
    transfer: FolderLike | None
    device: DeviceLike | None
    policy: PolicyLike | None
    redraw: int
    reviewer_seed: int | None
    search: str | None
    rerun: bool


class RareOptions(NetworkOptions, total=False):
    """Settings of `cimrobust.rare` by keyword."""

    tolerance: float | None
    calibration: DataLike | None
    particles: int | None
    budget: int | None
    repeats: int
    skip_most_probable: bool
    chip: str | Path | None


class SuggestOptions(NetworkOptions, total=False):
    """Settings of `cimrobust.suggest` by keyword."""

    tolerance: float | None
    calibration: DataLike | None
    protect: str
    tighten: float | None
    most_share: float
    out: str | Path | None
    device_type: str


class PlanOptions(NetworkOptions, total=False):
    """Settings of `cimrobust.plan` by keyword."""

    tolerance: float | None
    calibration: DataLike | None
    labels_of: ModelLike | None
    trials: int | None
    trials_on: str
    policy: PolicyLike | None
    stop_early: bool
    rare_below: float | None
    rare_budget: int | None
    skip_most_probable: bool
    diagnostics: str | None
    safety_class: int | None
    skip: Sequence[str]
    transfer: FolderLike | None
    time: str | None
    shards: str | Path | None
    device_type: str
    passes: int | None
    attack_samples: int | None


class AnalyzeOptions(PlanOptions, total=False):
    """Settings of `cimrobust.analyze` by keyword."""

    issued: str | None
    summary: str | Path | None
    resume: bool


class RetrainOptions(NetworkOptions, total=False):
    """Settings of `cimrobust.retrain` by keyword."""

    tolerance: float | None
    train_data: DataLike | None
    method: str
    knobs: Mapping[str, float | str] | None
    tuning_epochs: int
    freeze: Sequence[str]
    drop_overlap: bool
    control: bool
    equivalent: bool
    trials: int | None
    diagnostics: str | None
    resume: bool
    epochs: int
    batch: int
    learning_rate: float | None
    optimiser: Literal["adamw", "sgd"]
    weight_decay: float
    clean_loss: float
    patience: int | None
    gradient_norm: float
    search_passes: int
    draws: int
    update_norms: bool
    device_type: str
