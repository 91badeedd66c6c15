"""The most probable failing chip in words and numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.certificate import models
from cimrobust.montecarlo.rare_failures import Probability, first_order
from cimrobust.records import finite

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64
    from cimrobust.montecarlo.montecarlo_records import FirstOrderProbability
    from cimrobust.reliability.likely_chip import Attempt, LikelySearch, ProbableChip

_LABEL = (
    "An upper bound of the reliability index: the chip fails in the deployed network, and a nearer"
    " failing chip may exist. The norm counts every device in standard normal latents, through the"
    " quantile function of its distribution."
)
_RAYS = (
    "No gradients: only rays through given patterns and drawn chips were followed, so nearer"
    " failing chips very likely exist."
)
_NO_FILE_SCORE = "a model file has no converters"


def most_probable(
    search: LikelySearch, *, stored: models.StoredChip | None
) -> models.MostProbable | None:
    """Describe the chip that a search found; None: it found none.

    Args:
        search: What it found.
        stored: Where the chip is stored; None: nowhere.
    """
    chip = search.chip
    if chip is None:
        return None
    file_score = chip.proof.file_score
    return models.MostProbable(
        reliability_index=chip.norm,
        score=finite(chip.proof.score.value),
        correct=chip.proof.score.count,
        file_score=None if file_score is None else finite(file_score.value),
        file_score_reason=_NO_FILE_SCORE if file_score is None else None,
        method="gradient" if search.has_gradient else "rays",
        method_reason=search.gradient_reason,
        start=chip.attempt,
        devices=search.chips.size,
        **_beyond(chip.latents),
        drawn_norm=math.sqrt(search.chips.size),
        layers=_layers(search, chip),
        starts=[_start(attempt, chip) for attempt in search.attempts],
        effort=search.effort,  # type: ignore[arg-type]  # checked by pydantic
        seed=search.seed,
        crafting_samples=search.crafting_samples,
        passes=search.spent.passes,
        forwards=search.spent.forwards,
        evaluations=search.spent.evaluations,
        stored=stored,
        stored_reason=None if stored is not None else "no file was asked for",
        statement=_statement(search, chip),
        label=_LABEL if search.has_gradient else f"{_LABEL} {_RAYS}",
    )


def compared(norm: float, found: Probability, num_devices: int) -> models.FirstOrder:
    """Set the first-order probability of a chip beside what splitting found.

    Args:
        norm: Of the chip.
        found: What splitting found.
        num_devices: Devices of a chip.
    """
    both = first_order(norm, found)
    return models.FirstOrder(
        **dict(both), comparison=_comparison(both, found), meaning=_meaning(num_devices)
    )


def power_of_ten(log10: float) -> str:
    """Return a probability that float64 may not hold, in words: 1.9e-02, or 10^-334."""
    return f"{10.0**log10:.2g}" if log10 > -300.0 else f"10^{log10:.0f}"


def _comparison(both: FirstOrderProbability, found: Probability) -> str:
    shown = power_of_ten(both.log10_probability)
    if found.estimate is None:
        if both.agrees is None:
            return (
                "Not comparable: splitting did not reach the event, and says only that it is rarer"
                f" than {found.high:.2g}; first order says {shown}."
            )
        return (
            f"First order, {shown}, is wrong here: splitting did not reach the event, which is"
            f" rarer than {found.high:.2g}."
        )
    if both.agrees:
        return f"First order, {shown}, lies in the interval of splitting."
    apart = abs(both.log10_probability - math.log10(found.estimate))
    side = "below" if both.probability < found.low else "above"
    return (
        f"First order, {shown}, lies {side} the interval of splitting, by a factor of"
        f" {power_of_ten(apart) if apart < 4 else f'10^{apart:.0f}'}: the limit of failing is not"
        " flat where chips are drawn. Believe splitting."
    )


def _meaning(num_devices: int) -> str:
    return (
        "First order is the probability Phi(-beta) of all chips behind the plane that touches the"
        " failing region at this chip. It is the probability of failing only where that region is"
        " a half space for the chips that are drawn, and those have a norm of about"
        f" {math.sqrt(num_devices):.3g}, the root of {num_devices} devices: failing chips that are"
        " drawn are nowhere near this one. What many small deviations do together, and failing"
        " regions in other directions, it leaves out. It is no bound on the probability in either"
        " direction."
    )


def _statement(search: LikelySearch, chip: ProbableChip) -> str:
    if chip.norm == 0.0:
        return (
            f"The median chip, without any deviation, already misses {search.below:g}: it scores"
            f" {chip.proof.score.value:.6g}."
        )
    return (
        f"A chip that misses {search.below:g} lies at a norm of {chip.norm:.4g}, so the reliability"
        f" index is at most that. It scores {chip.proof.score.value:.6g}; a drawn chip has a norm"
        f" of about {math.sqrt(search.chips.size):.4g}."
    )


def _layers(search: LikelySearch, chip: ProbableChip) -> list[models.NormShare]:
    total = max(chip.norm**2, 1e-300)
    rows = []
    for layer in search.chips.layers:
        part = layer.of(chip.latents)
        share = min(float((part.astype(np.float64) ** 2).sum()) / total, 1.0)
        rows.append(
            models.NormShare(
                initializer=layer.tensor.initializer,
                share=share,
                devices=part.size,
                **_beyond(part),
            )
        )
    return rows


def _start(attempt: Attempt, chip: ProbableChip) -> models.ProbableStart:
    agreement = None
    if attempt.latents is not None and attempt.norm and chip.norm:
        cosine = float(
            np.dot(attempt.latents.astype(np.float64), chip.latents.astype(np.float64))
        ) / (attempt.norm * chip.norm)
        agreement = float(np.clip(cosine, -1.0, 1.0))
    return models.ProbableStart(
        name=attempt.name,
        norm=attempt.norm,
        agreement=agreement,
        passes=attempt.passes,
        evaluations=attempt.evaluations,
    )


def _beyond(latents: Float64[np.ndarray, "latents"]) -> dict[str, int]:
    sizes = np.abs(latents)
    return {f"beyond_{limit}": int((sizes > limit).sum()) for limit in (1, 2, 3)}
