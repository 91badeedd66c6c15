"""retrain.json: how a network was re-trained, and what its certificates say before and after."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.base import Block, Count, Record
from cimrobust.certificate.models.compared import LayerComparison, ToleranceComparison
from cimrobust.certificate.models.item import FileHash, Metric, Tool


class Splits(Block):
    """Which samples were used for what; no two of them share a sample, by content."""

    training: Count
    validation: Count
    evaluation: Count
    dropped: Count
    digest: str
    training_files: dict[str, str]
    evaluation_files: dict[str, str]


class Epoch(Block):
    """One epoch; scores are of the validation split, null where nothing was measured."""

    epoch: Count
    loss: float | None
    clean: float | None
    attacked: float | None
    kpp: float | None
    mean: float | None
    proved: float | None
    learning_rate: float
    skipped: Count
    eligible: bool
    seconds: float
    training_seconds: float


class Training(Block):
    """One training.

    The range is that which weights were clipped to, in standard deviations of their tensor, null where they were not. The bound's share is what the interval bound had of the loss at the end,
    its ratio that of the bounded to the attacked loss before training, null where nobody asked or there is no bound, and then the reason says why.
    """

    method: str
    what: str
    knobs: dict[str, float]
    weight_range: float | None
    bound_share: float | None
    bound_ratio: float | None
    bound_reason: str | None
    best_epoch: Count
    stopped_early: bool
    epochs: list[Epoch]


class PacedRate(Block):
    """One learning rate that was tried; null where losses were not finite."""

    rate: float
    clean: float | None


class Paced(Block):
    """How the learning rate was chosen: clean scores on the validation split after the first steps of plain training, and that before."""

    rate: float
    before: float | None
    tried: list[PacedRate]


class TunedTrial(Block):
    """One short training of the search; its score is the attacked validation score, ties by the first percentile, far below 0 where too much clean accuracy was lost."""

    values: dict[str, float]
    epochs: Count
    pruned: bool
    score: float


class Tuned(Block):
    """The search for the settings of the method."""

    budget_epochs: Count
    used_epochs: Count
    library: str
    trials: list[TunedTrial]


class Outcome(Block):
    """What one certificate says; its folder is relative to that of retrain.json."""

    folder: str
    model: FileHash
    clean: float | None
    quantised: float | None
    mean: float | None
    kpp: list[dict[str, float | None]]
    worst_found: float | None
    transferred: float | None
    certified: float | None
    certified_reason: str | None
    trials: Count
    effort: str
    verdict: str


class Equivalent(Block):
    """Tolerance at which the old network would be as good as the new one is at the stated one, by quick searches."""

    tolerance: float | None
    effort: str
    reason: str | None


class Parameters(Block):
    """Initializers that were trained, and what was left alone and why."""

    stored: list[str]
    biases: list[str]
    normalisations: list[str]
    left: dict[str, str]


class Retraining(Record):
    """retrain.json."""

    NAME = "retrain"
    VERSION = "1.4"

    schema_version: Literal["1.4"]
    tool: Tool
    metric: Metric
    model: str
    device: str
    tolerance: float
    self_labelled: bool
    splits: Splits
    settings: dict[str, int | float | str | bool | None]
    parameters: Parameters
    training: Training
    control: Training | None
    tuning: Tuned | None
    pace: Paced | None
    before: Outcome
    after: Outcome
    control_outcome: Outcome | None
    tolerances: ToleranceComparison | None
    tolerances_reason: str | None
    layers: LayerComparison | None
    layers_reason: str | None
    equivalent: Equivalent | None
    notes: list[str]
    files: dict[str, str]
    seconds: dict[str, float]
