"""How many samples are bounded together, and whether memory holds them."""

from __future__ import annotations

from collections.abc import Callable

from cimrobust.available_memory import available_memory, planned_memory
from cimrobust.certify.refusal import Refusal

#: Samples that are bounded together, of a large network fewer. As many units are narrowed for each
#: as the one with the most bent units needs, so company can only tighten a bound.
MOST_SAMPLES = 16
#: Bytes of its samples above which a batch is halved: a number, not a share of the memory, so that
#: bounds are the same on every machine.
_BATCH_BYTES = 2**31
#: Share of the free memory that one batch may take: two may be at work, and something else may run.
_MOST_MEMORY = 0.4
#: Bytes a stored weight, in float64: the twin's, both ends of its interval, and what rules work out
#: from them (middle, radius, magnitude).
_WEIGHT_BYTES = 48


def refuse_box(num_weights: int) -> Refusal | None:
    """Return why the box of so many weights does not fit into memory; None where it does."""
    needed, free = _WEIGHT_BYTES * num_weights, planned_memory()
    if needed <= free:
        return None
    return Refusal(
        f"intervals of {num_weights} weights need about {needed / 1e9:.3g} GB of memory, and"
        f" {free / 1e9:.3g} GB may be taken"
    )


def sized(needed: Callable[..., int], *, has_one_each: bool) -> tuple[int, int]:
    """Return how many decisions are bounded together, and the bytes that their samples need.

    Args:
        needed: Returns the bytes for a number of samples.
        has_one_each: Every sample has one decision. Where it has more they share its pass, and the
            smaller batches are, the more often it is made.
    """
    batch, weights = MOST_SAMPLES, needed(samples=0)
    while has_one_each and batch > 1 and needed(samples=batch) - weights > _BATCH_BYTES:
        batch //= 2
    return batch, needed(samples=batch)


def refuse_size(batch: int, needed: int) -> Refusal | None:
    """Return why a batch that needs so many bytes does not fit into memory; None where it does."""
    most = _MOST_MEMORY * available_memory()
    if needed <= most:
        return None
    return Refusal(
        f"{batch} {'samples need' if batch > 1 else 'sample needs'} about {needed / 1e9:.3g} GB of"
        f" memory, and {most / 1e9:.3g} GB may be taken"
    )
