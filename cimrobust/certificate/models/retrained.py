"""retrain.json: how a network was re-trained, and what its certificates say before and after."""

from __future__ import annotations

from typing import Literal

from cimrobust.certificate.models.compared import LayerComparison, ToleranceComparison
from cimrobust.certificate.models.item import FileHash, Metric, Tool
from cimrobust.certificate.models.result_file import ResultFile
from cimrobust.records import Count, Record, Rows
from cimrobust.training.training_records import Equivalent, Paced, TunedTrial


class Splits(Record):
    """Which samples were used for what; no two of them share a sample, by content."""

    training: Count
    """Samples that weights were trained on."""
    validation: Count
    """Samples that the epoch and settings were chosen on."""
    evaluation: Count
    """Samples that the certificates evaluate."""
    dropped: Count
    """Training samples left out because they are evaluated."""
    digest: str
    """Digest of which sample is in which part."""
    training_files: dict[str, str]
    """SHA-256 of the training files by name."""
    evaluation_files: dict[str, str]
    """SHA-256 of the evaluation files by name."""


class Epoch(Record):
    """One epoch; scores are of the validation split, null where nothing was measured."""

    epoch: Count
    """Number of the epoch, from 1."""
    loss: float | None
    """Mean training loss."""
    clean: float | None
    """Score without deviation."""
    attacked: float | None
    """Score on the worst chip of a short attack."""
    kpp: float | None
    """First percentile of drawn chips."""
    mean: float | None
    """Mean of drawn chips."""
    proved: float | None
    """Certified score."""
    learning_rate: float
    """Learning rate at its end."""
    skipped: Count
    """Steps left out so far because loss or gradient were not finite."""
    eligible: bool
    """Whether the clean score is within the loss allowed."""
    seconds: float
    """Wall-clock seconds, validation included."""
    training_seconds: float
    """Wall-clock seconds of the training alone."""


class Training(Record):
    """One training.

    The range is that which weights were clipped to, in standard deviations of their tensor, null
    where they were not. The bound's share is what the interval bound had of the loss at the end,
    its ratio that of the bounded to the attacked loss before training, null where nobody asked or
    there is no bound, and then the reason says why.
    """

    method: str
    """Name of the method."""
    what: str
    """The method in words."""
    knobs: dict[str, float]
    """Settings of the method."""
    version: str | None
    """Which of its published versions; null: there is one, or not stated."""
    noise_scale: float | None
    """Scale of the noise that a search chose, in units of the largest weight; null: no search."""
    weight_range: float | None
    """Range that weights were clipped to, in standard deviations of their tensor; null: not
    clipped."""
    bound_share: float | None
    """Share of the interval bound in the loss at the end; null: not stated."""
    bound_ratio: float | None
    """Bounded over attacked loss before training; null: nobody asked, or no bound."""
    bound_reason: str | None
    """Why the bound has no part in the loss."""
    best_epoch: Count
    """Epoch that was kept."""
    stopped_early: bool
    """Whether training ended before its last epoch."""
    epochs: list[Epoch]
    """Every epoch."""


class Tuned(Record):
    """The search for the settings of the method."""

    budget_epochs: Count
    """Epochs that the search might take."""
    used_epochs: Count
    """Epochs that it took."""
    library: str
    """Library and version."""
    trials: Rows[TunedTrial]
    """Every short training."""


class Outcome(Record):
    """What one certificate says; its folder is relative to that of retrain.json."""

    folder: str
    """Folder of the certificate, relative to this file."""
    model: FileHash
    """The network."""
    clean: float | None
    """Clean score, float weights."""
    quantised: float | None
    """Clean score, quantised weights."""
    mean: float | None
    """Mean of drawn chips."""
    kpp: list[dict[str, float | None]]
    """K-th percentiles with their bounds."""
    worst_found: float | None
    """Worst score found."""
    transferred: float | None
    """Score with the witness of the old network; null: not scored."""
    certified: float | None
    """Certified score; null: no bound."""
    certified_reason: str | None
    """Why there is none."""
    trials: Count
    """Chips drawn."""
    effort: str
    """Effort of the search: quick, standard or thorough."""
    verdict: str
    """Verdict word."""


class AuthorsScore(Record):
    """What a search of the authors of TRICE and A-TRICE reports of a network.

    It keeps to no tolerance box: above 1 the noise that it ends at is outside.
    """

    score: float
    """Score of all evaluation samples there."""
    reached: float
    """Largest deviation over the bound."""
    steps: Count
    """Steps of the search."""


class GainStep(Record):
    """One network on the way from that before training to that after it."""

    name: str
    """Which network: as it is, clipped, plain, plain with clipping, attack, or the method."""
    what: str
    """How it was made."""
    folder: str | None
    """Folder of its file, relative to this file; null: that before training."""
    sha256: str
    """SHA-256 of its file."""
    certified: bool
    """Whether it has a certificate of its own, which states its worst score."""
    clean: float | None
    """Score of the quantised weights."""
    worst_found: float | None
    """Worst score found, by the search of the certificates."""
    sign_walk: AuthorsScore | None
    """The sign steps that the authors score A-TRICE by; null: not asked for."""
    carlini_wagner: AuthorsScore | None
    """Their Carlini-Wagner search; null: not asked for, or no noise reached its bound."""
    authors_reason: str | None
    """Why one of the two is null."""


class WeightScale(Record):
    """How the weights of one layer lie in their range."""

    largest: float
    """Largest magnitude."""
    box_radius: float
    """Largest deviation that the tolerance allows, in the unit of the weights."""
    mean_level: float
    """Mean magnitude over the largest: the mean conductance of the cells that hold weights."""


class LayerWeights(Record):
    """One layer before training, after it, and in the controls; null: no such control."""

    initializer: str
    """Name of the initializer."""
    before: WeightScale
    """The network as it was."""
    control: WeightScale | None
    """Plain fine-tuning."""
    clip: WeightScale | None
    """Plain fine-tuning on clipped weights."""
    after: WeightScale
    """The re-trained network."""


class Parameters(Record):
    """Initializers that were trained, and what was left alone and why."""

    stored: list[str]
    """Initializers in devices that were trained."""
    biases: list[str]
    """Digital biases that were trained."""
    normalisations: list[str]
    """Scales, shifts and statistics of normalisations that were trained."""
    left: dict[str, str]
    """Initializers that were left alone, and why."""


class Retraining(ResultFile):
    """retrain.json."""

    NAME = "retrain"
    VERSION = "1.5"

    schema_version: Literal["1.5"]
    """Version of this format, MAJOR.MINOR."""
    tool: Tool
    """What made the file."""
    metric: Metric
    """What a score is."""
    model: str
    """File name of the network."""
    device: str
    """Name of the device profile."""
    tolerance: float
    """Half width of a device's interval, fraction of the full conductance range."""
    self_labelled: bool
    """Whether labels are the network's own decisions."""
    splits: Splits
    """Which samples were used for what."""
    settings: dict[str, int | float | str | bool | None]
    """Every setting of the run, defaults included."""
    parameters: Parameters
    """What was trained."""
    training: Training
    """The training with the method."""
    control: Training | None
    """The training of the control; null: there was none."""
    more_trainings: dict[str, Training]
    """Further trainings by role: clip, plain fine-tuning on clipped weights, and attack, the method
    without its interval bound."""
    steps: list[GainStep]
    """What each part of the method gains; empty: not measured."""
    steps_reason: str | None
    """Why it is empty."""
    weights: list[LayerWeights]
    """How the weights of every layer lie in their range; empty: not stated."""
    tuning: Tuned | None
    """Search for the settings; null: there was none."""
    pace: Paced | None
    """How the learning rate was chosen; null: it was given."""
    before: Outcome
    """Certificate of the network as it was."""
    after: Outcome
    """Certificate of the re-trained network."""
    control_outcome: Outcome | None
    """Certificate of the control; null: there is none."""
    tolerances: ToleranceComparison | None
    """Scores of all networks over the tolerance."""
    tolerances_reason: str | None
    """Why it is null."""
    layers: LayerComparison | None
    """Fragility of all networks layer by layer."""
    layers_reason: str | None
    """Why it is null."""
    equivalent: Equivalent | None
    """Tolerance that would do for the old network what training did; null: nobody asked."""
    notes: list[str]
    """What a reader has to know."""
    files: dict[str, str]
    """SHA-256 of the written files by name."""
    seconds: dict[str, float]
    """Wall-clock seconds by stage."""
