"""A pattern that a member found, how bad it is, and what is known before a member runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from cimrobust.mapping.box import Box, Pattern
from cimrobust.search.packed_pattern import PackedPattern, pack, unchecked

# Candidates of a member that are scored on all samples.
_MOST_PATTERNS = 4


class Key(NamedTuple):
    """How well a network does on the attack set; the smaller, the worse for it.

    Attributes:
        score: Correct decisions; of a regression minus the error.
        smooth_accuracy: Accuracy with soft edges, which breaks ties; 0 for a regression.
    """

    score: float
    smooth_accuracy: float


@dataclass(frozen=True)
class Shelved:
    """A pattern in little space, for as long as nobody looks at it.

    Attributes:
        box: Box that it is packed by.
        packed: The pattern.
    """

    box: Box
    packed: PackedPattern


@dataclass(frozen=True)
class Candidate:
    """A pattern and what it does.

    Attributes:
        stored: Its deviations, or the same in little space.
        key: What it does to the network on the attack set.
        origin: How it was reached.
        member: Who reached it.
        is_new: It was found; False: it was known before, and nothing found was worse.
    """

    stored: Pattern | Shelved
    key: Key
    origin: str
    member: str
    is_new: bool = True

    @property
    def pattern(self) -> Pattern:
        """Deviations inside the box; made anew at every call where they are shelved."""
        if isinstance(self.stored, Shelved):
            return unchecked(self.stored.box, self.stored.packed)
        return self.stored

    def packed(self, box: Box) -> PackedPattern:
        """Return its deviations in little space."""
        return self.stored.packed if isinstance(self.stored, Shelved) else pack(box, self.stored)

    def shelved(self, box: Box) -> Candidate:
        """Return the same candidate in little space, to be kept for long.

        A search keeps dozens of patterns, each as large as the network.
        """
        return replace(self, stored=Shelved(box, self.packed(box)))


@dataclass(frozen=True)
class Earlier:
    """What is known before a member runs.

    Attributes:
        found: The best pattern of every run of earlier members, in the order they were found.
        starts: Patterns that the caller gave to go on from; among `found` too.
    """

    found: tuple[Candidate, ...] = ()
    starts: tuple[Candidate, ...] = ()

    def and_found(self, candidates: Iterable[Candidate]) -> Earlier:
        """Return the same with the new ones of a member's candidates."""
        new = (candidate for candidate in candidates if candidate.is_new)
        return replace(self, found=(*self.found, *new))

    def and_start(self, candidate: Candidate) -> Earlier:
        """Return the same with a pattern that the caller gave."""
        return Earlier((*self.found, candidate), (*self.starts, candidate))

    @cached_property
    def best(self) -> tuple[Candidate, ...]:
        """The best candidate of every member, the worst for the network first.

        Equal ones in the order in which their members ran.
        """
        by_member: dict[str, Candidate] = {}
        for candidate in self.found:
            known = by_member.get(candidate.member)
            if known is None or candidate.key < known.key:
                by_member[candidate.member] = candidate
        return tuple(sorted(by_member.values(), key=lambda candidate: candidate.key))

    def of(self, member: str) -> tuple[Candidate, ...]:
        """Return what one member found."""
        return tuple(candidate for candidate in self.found if candidate.member == member)


def most_promising(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the best candidates of a member's runs, the worst for the network first.

    More than one, since the best on the attack set need not be the best on all samples.
    """
    return sorted(candidates, key=lambda candidate: candidate.key)[:_MOST_PATTERNS]
