"""The most probable failing chip."""

from __future__ import annotations

from typing import Literal

from cimrobust.records import Count, Fraction, Record


class NormShare(Record):
    """Where the chip deviates.

    Share of the squared norm that lies in one layer, and its devices whose latents exceed 1, 2 and
    3 in magnitude.
    """

    initializer: str
    """Name of the initializer in the graph."""
    share: Fraction
    """Share of the squared norm that lies in the layer."""
    devices: Count
    """Devices of the layer."""
    beyond_1: Count
    """Devices whose latent exceeds 1 in magnitude."""
    beyond_2: Count
    """Devices whose latent exceeds 2 in magnitude."""
    beyond_3: Count
    """Devices whose latent exceeds 3 in magnitude."""


class ProbableStart(Record):
    """One start of the search.

    `agreement` is the cosine of the angle between the chip that it led to and the chip reported.
    """

    name: str
    """Name of the start."""
    norm: float | None
    """Norm of the failing chip that it led to; null: none."""
    agreement: float | None
    """Cosine of the angle to the chip reported."""
    passes: Count
    """Forward and backward passes over the attack set."""
    evaluations: Count
    """Scorings of whole patterns in onnxruntime."""


class StoredChip(Record):
    """The file that holds the chip."""

    file: str
    """Path of the file in the folder."""
    sha256: str
    """Its SHA-256 digest, hexadecimal."""


class MostProbable(Record):
    """The failing chip of smallest norm found, in standard normal latents.

    The reliability index is at most this norm.
    """

    reliability_index: float
    """Norm of the chip in standard normal latents; the true index beta is at most this."""
    score: float
    """Score of the chip."""
    correct: Count | None
    """Correct decisions that the score counts; null for a regression."""
    file_score: float | None
    """Score of its model file in plain onnxruntime."""
    file_score_reason: str | None
    """Why there is none."""
    method: Literal["gradient", "rays"]
    """gradient, or rays where there are no gradients."""
    method_reason: str | None
    """Why gradients were not used."""
    start: str
    """Start that led to it."""
    devices: Count
    """Devices of one chip."""
    beyond_1: Count
    """Devices whose latent exceeds 1 in magnitude."""
    beyond_2: Count
    """Devices whose latent exceeds 2 in magnitude."""
    beyond_3: Count
    """Devices whose latent exceeds 3 in magnitude."""
    drawn_norm: float
    """Norm of a chip drawn at random, the square root of the number of devices."""
    layers: list[NormShare]
    """Where the chip deviates."""
    starts: list[ProbableStart]
    """What every start led to."""
    effort: Literal["quick", "standard", "thorough"]
    """Effort of the search: quick, standard or thorough."""
    seed: int
    """Seed of its random numbers."""
    crafting_samples: Count
    """Samples of the attack set, on which gradients were computed."""
    passes: Count
    """Forward and backward passes over the attack set."""
    forwards: Count
    """Forward passes of the twin."""
    evaluations: Count
    """Scorings of whole patterns in onnxruntime."""
    stored: StoredChip | None
    """File that holds the chip."""
    stored_reason: str | None
    """Why there is none."""
    statement: str
    """The result as a sentence."""
    label: str
    """What kind of statement this is."""
