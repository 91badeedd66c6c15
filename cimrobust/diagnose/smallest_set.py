"""The smallest set of layers, by devices, whose protection gives what is asked.

Grown, pruned, exchanged, confirmed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from cimrobust.diagnose.protected_attacks import Chosen, Confirm, ProtectedAttacks, Tried
from cimrobust.diagnose.protection import DIGITAL

# Layers that are attacked at every step of growing, after all layers were ranked by known chips.
_PROPOSALS = 3
# With so many layers or fewer, every cheaper set is ruled out or tried.
_ALL_SETS = 12


@dataclass(frozen=True)
class Smallest:
    """What was found.

    Attributes:
        chosen: Layers to protect; None: no set that was tried gives what is asked.
        is_smallest: Every set with fewer devices was refuted; else no layer can be left out, and no
            exchange of one for another is known to help.
    """

    chosen: Chosen | None
    is_smallest: bool


def smallest_set(
    attacks: ProtectedAttacks, confirm: Confirm, *, most_devices: int, most_attacks: int
) -> Smallest:
    """Look for the fewest devices to protect.

    Args:
        attacks: Tries choices.
        confirm: Searches the real thing in full; where it finds that a choice will not do, growing
            goes on from there.
        most_devices: Devices that may be protected at most.
        most_attacks: Attacks after which cheaper sets are not looked for any more; growing and
            pruning always end.
    """
    names = [
        name
        for name, tensor in attacks.placement.tensors.items()
        if attacks.protection.helps(tensor)
    ]
    chosen: Chosen = frozenset()
    while True:
        grown = _grow(attacks, names, chosen, most_devices)
        if grown is None:
            return Smallest(None, False)
        chosen = _prune(attacks, grown)
        chosen, is_smallest = _cheaper(attacks, names, chosen, most_attacks)
        if confirm(chosen):
            return Smallest(chosen, is_smallest)


def _grow(
    attacks: ProtectedAttacks, names: list[str], chosen: Chosen, most_devices: int
) -> Chosen | None:
    """Add layers until a choice gives what is asked; None: all that may be added is not enough."""
    while True:
        now = attacks.evaluate(chosen)
        if now.met:
            return chosen
        rest = [
            name
            for name in names
            if name not in chosen and _allowed(attacks, chosen | {name}, most_devices)
        ]
        if not rest:
            return None
        proposals = attacks.ranked(chosen, rest)[:_PROPOSALS]
        tried = [attacks.evaluate(chosen | {name}) for name in proposals]
        met = [entry for entry in tried if entry.met]
        if met:
            return frozenset(min(met, key=lambda entry: entry.devices).chosen)
        chosen = frozenset(max(tried, key=lambda entry: _gain(attacks, now, entry)).chosen)


def _gain(attacks: ProtectedAttacks, before: Tried, after: Tried) -> float:
    """Return the score gained for each device."""
    return (attacks.value(after) - attacks.value(before)) / max(after.devices - before.devices, 1)


def _allowed(attacks: ProtectedAttacks, chosen: Chosen, most_devices: int) -> bool:
    """Tell whether so many layers may be protected.

    One has to be left where the others are digital.
    """
    if attacks.protection.kind == DIGITAL and len(chosen) == len(attacks.placement.tensors):
        return False
    return attacks.devices(chosen) <= most_devices


def _prune(attacks: ProtectedAttacks, chosen: Chosen) -> Chosen:
    """Leave out every layer that need not be protected, the largest first."""
    for name in sorted(chosen, key=lambda name: (-attacks.devices([name]), name)):
        fewer = chosen - {name}
        if not attacks.is_refuted(fewer) and attacks.evaluate(fewer).met:
            chosen = fewer
    return chosen


def _cheaper(
    attacks: ProtectedAttacks, names: list[str], chosen: Chosen, most_attacks: int
) -> tuple[Chosen, bool]:
    """Look for sets with fewer devices; return the best, and whether all with fewer are refuted."""
    while True:
        better, all_refuted = _better(attacks, names, chosen, most_attacks)
        if better is None:
            return chosen, all_refuted
        chosen = _prune(attacks, better)


def _better(
    attacks: ProtectedAttacks, names: list[str], chosen: Chosen, most_attacks: int
) -> tuple[Chosen | None, bool]:
    sets = _all_sets(names) if len(names) <= _ALL_SETS else _exchanges(names, chosen)
    limit = attacks.devices(chosen)
    cheaper = [candidate for candidate in sets if attacks.devices(candidate) < limit]
    # The largest first: what one of them falls to, all its parts fall to.
    for candidate in sorted(cheaper, key=lambda item: (-attacks.devices(item), sorted(item))):
        if attacks.is_refuted(candidate):
            continue
        if attacks.attacks >= most_attacks:
            return None, False
        if attacks.evaluate(candidate).met:
            return candidate, False
    return None, len(names) <= _ALL_SETS


def _all_sets(names: list[str]) -> Iterator[Chosen]:
    return (frozenset(part) for size in range(len(names) + 1) for part in combinations(names, size))


def _exchanges(names: list[str], chosen: Chosen) -> Iterator[Chosen]:
    """Yield the choice with one layer in place of another."""
    others = [name for name in names if name not in chosen]
    return ((chosen - {out}) | {into} for out in sorted(chosen) for into in others)
