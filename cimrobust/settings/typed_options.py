"""Keywords of the functions that take settings, for type checkers.

Made by `python docs/generate.py` from the settings models; change those, not this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

from cimrobust.progress import Progress
from cimrobust.settings.python_inputs import DataLike, DeviceLike, FolderLike, ModelLike, PolicyLike


class AnalyzeOptions(TypedDict, total=False):
    """Settings of `cimrobust.analyze` by keyword."""

    device: DeviceLike
    tolerance: float | None
    digital: Sequence[str]
    calibration: DataLike | None
    labels_of: ModelLike | None
    limit: int | None
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
    issued: str | None
    time: str | None
    summary: str | Path | None
    resume: bool
    shards: str | Path | None
    cluster: str | None
    seed: int
    workers: int | None
    effort: str
    device_type: str
    passes: int | None
    attack_samples: int | None
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class PlanOptions(TypedDict, total=False):
    """Settings of `cimrobust.plan` by keyword."""

    device: DeviceLike
    tolerance: float | None
    digital: Sequence[str]
    calibration: DataLike | None
    labels_of: ModelLike | None
    limit: int | None
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
    cluster: str | None
    seed: int
    workers: int | None
    effort: str
    device_type: str
    passes: int | None
    attack_samples: int | None
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class SweepOptions(TypedDict, total=False):
    """Settings of `cimrobust.sweep` by keyword."""

    device: DeviceLike
    digital: Sequence[str]
    calibration: DataLike | None
    limit: int | None
    trials: int | None
    require: float | None
    witnesses: bool
    resume: bool
    cluster: str | None
    seed: int
    workers: int | None
    effort: str
    device_type: str
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class RetrainOptions(TypedDict, total=False):
    """Settings of `cimrobust.retrain` by keyword."""

    device: DeviceLike
    tolerance: float | None
    digital: Sequence[str]
    limit: int | None
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
    cluster: str | None
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
    seed: int
    device_type: str
    workers: int | None
    effort: str
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class RareOptions(TypedDict, total=False):
    """Settings of `cimrobust.rare` by keyword."""

    device: DeviceLike
    tolerance: float | None
    digital: Sequence[str]
    calibration: DataLike | None
    limit: int | None
    particles: int | None
    budget: int | None
    repeats: int
    skip_most_probable: bool
    chip: str | Path | None
    cluster: str | None
    seed: int
    workers: int | None
    effort: str
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class SuggestOptions(TypedDict, total=False):
    """Settings of `cimrobust.suggest` by keyword."""

    device: DeviceLike
    tolerance: float | None
    digital: Sequence[str]
    calibration: DataLike | None
    limit: int | None
    protect: str
    tighten: float | None
    most_share: float
    out: str | Path | None
    cluster: str | None
    seed: int
    workers: int | None
    effort: str
    device_type: str
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class VerifyOptions(TypedDict, total=False):
    """Settings of `cimrobust.verify` by keyword."""

    device: DeviceLike
    tolerance: float | None
    digital: Sequence[str]
    calibration: DataLike | None
    limit: int | None
    shares: Sequence[float]
    tighter: float
    write_sigma: float
    cluster: str | None
    seed: int
    workers: int | None
    effort: str
    device_type: str
    memory: str | None
    time_limit: float | None
    progress: Progress | None


class ReplayOptions(TypedDict, total=False):
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
    cluster: str | None
    workers: int | None
    memory: str | None
    time_limit: float | None
    progress: Progress | None
