"""Bounds of samples that are kept on disk while further ones are still being taken."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cimrobust.finished_parts import FinishedParts, digest_of

if TYPE_CHECKING:
    from cimrobust.certify.branch import BranchSettings

#: Seconds of work that an interrupted run loses at most, beside that of batches that are running.
_WORTH_KEEPING = 1.0

Bound = tuple[Bool[np.ndarray, "samples"], Float64[np.ndarray, "samples"]]


@dataclass(frozen=True)
class KeptBounds:
    """Bounds of the first samples of a piece of work, in its order.

    Attributes:
        certified: As `Bounds.certified`.
        margin: As `Bounds.margin`.
    """

    certified: Bool[np.ndarray, "samples"]
    margin: Float64[np.ndarray, "margins"]


@dataclass
class KeptSamples:
    """What is known of groups of samples, one box after the other.

    Attributes:
        parts: Where it is kept.
        name: Its name there.
        sizes: Number of samples in each box, by its size.
        certified: Of the samples so far.
        margin: Likewise.
    """

    parts: FinishedParts
    name: str
    sizes: Mapping[float, int]
    certified: list[Bool[np.ndarray, "_samples"]]
    margin: list[Float64[np.ndarray, "_samples"]]
    written: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls,
        parts: FinishedParts,
        groups: Mapping[float, Int64[np.ndarray, "_samples"]],
        *,
        batch: int,
        settings: tuple[str, float, BranchSettings | None],
    ) -> KeptSamples:
        """Return what an interrupted run knows of some groups; of others nothing.

        Args:
            parts: Where it is kept.
            groups: Indices of samples by size of the box.
            batch: Samples that are bounded together at most.
            settings: Method, effort and branching, as for `bounds.certify`.
        """
        sizes = {scale: len(indices) for scale, indices in groups.items()}
        name = ""
        known = None
        if parts.keeps:
            name = f"{settings[0]}-{digest_of([groups, batch, settings])[:16]}"
            known = parts.find(name, KeptBounds, partial(_check, tuple(sizes.values()), batch))
        return cls(
            parts,
            name,
            sizes,
            [np.zeros(0, bool) if known is None else known.certified],
            [np.zeros(0) if known is None else known.margin],
        )

    @property
    def num_samples(self) -> int:
        """Samples so far."""
        return sum(map(len, self.certified))

    def add(
        self, certified: Bool[np.ndarray, "samples"], margin: Float64[np.ndarray, "samples"]
    ) -> None:
        """Take the bounds of the next batch."""
        self.certified.append(certified)
        self.margin.append(margin)
        now = time.perf_counter()
        is_last = self.num_samples == sum(self.sizes.values())
        if self.parts.keeps and (is_last or now - self.written > _WORTH_KEEPING):
            so_far = KeptBounds(np.concatenate(self.certified), np.concatenate(self.margin))
            self.parts.keep(self.name, so_far)
            self.written = now

    def by_box(self) -> dict[float, Bound]:
        """Return the bounds of every group, all of which must have been taken."""
        ends = np.cumsum(list(self.sizes.values()))[:-1]
        certified = np.split(np.concatenate(self.certified), ends)
        margin = np.split(np.concatenate(self.margin), ends)
        return dict(zip(self.sizes, zip(certified, margin, strict=True), strict=True))


def _check(sizes: Sequence[int], batch: int, kept: KeptBounds) -> None:
    """Raise ValueError unless bounds are those of whole batches, from the first on."""
    done = len(kept.certified)
    if len(kept.margin) != done or np.isnan(kept.margin).any():
        raise ValueError("it must hold one bound a sample")
    for size in sizes:
        if done < size and done % batch:
            raise ValueError("it must hold whole batches")
        done = max(done - size, 0)
    if done:
        raise ValueError("it holds more samples than were asked for")
