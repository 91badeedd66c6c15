"""The smallest set of layers to protect, on networks whose sets are known in advance."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any

import pytest

from cimrobust.data.decision import Score
from cimrobust.diagnose.protected_attacks import Chosen, Tried
from cimrobust.diagnose.smallest_set import smallest_set

_SIZES = {"a": 10, "b": 100, "c": 30, "d": 1000, "e": 5}


class Known:
    """Stands for the attacks: a set scores what a function says of it."""

    def __init__(
        self,
        score: Callable[[Chosen], float],
        *,
        kind: str = "tighter",
        sizes: dict[str, int] | None = None,
    ) -> None:
        self.sizes = sizes or _SIZES
        self.protection = SimpleNamespace(kind=kind, helps=lambda tensor: tensor.helps)
        self.placement = SimpleNamespace(
            tensors={name: SimpleNamespace(helps=True) for name in self.sizes}
        )
        self.attacks = 0
        self._score = score
        self.known: dict[Chosen, Tried] = {}

    def devices(self, chosen: Collection[str]) -> int:
        return sum(self.sizes[name] for name in chosen)

    def value(self, tried: Tried) -> float:
        return tried.score.value

    def is_refuted(self, chosen: Chosen) -> bool:
        return any(not tried.met and chosen <= known for known, tried in self.known.items())

    def evaluate(self, chosen: Chosen) -> Tried:
        if chosen not in self.known:
            self.attacks += 1
            value = self._score(chosen)
            self.known[chosen] = Tried(
                tuple(sorted(chosen)),
                self.devices(chosen),
                Score(value, None, 10),
                value >= 0.9,
                "attack",
                "",
            )
        return self.known[chosen]

    def ranked(self, chosen: Chosen, rest: Collection[str]) -> list[str]:
        before = self._score(chosen)
        return sorted(
            rest,
            key=lambda name: (
                -(self._score(chosen | {name}) - before) / self.devices([name]),
                name,
            ),
        )


def needs(*sets: Collection[str]) -> Callable[[Chosen], float]:
    """Return a score that reaches what is asked where one of some sets is protected, and grows with
    every part of one.
    """
    return lambda chosen: max(
        1.0 if set(part) <= chosen else 0.8 * len(set(part) & chosen) / len(part) for part in sets
    )


def found(
    known: Any,
    *,
    confirm: Callable[[Chosen], bool] = lambda chosen: True,
    most: int = 10_000,
    attacks: int = 100,
) -> Any:
    return smallest_set(known, confirm, most_devices=most, most_attacks=attacks)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([{"b"}], {"b"}),
        ([{"a", "e"}, {"d"}], {"a", "e"}),
        ([{"d", "e"}, {"b", "c"}], {"b", "c"}),
        ([{"a", "b", "c"}, {"d", "a"}], {"a", "b", "c"}),
        ([set(_SIZES)], set(_SIZES)),
    ],
)
def test_the_set_with_the_fewest_devices_is_found(sets: list[set[str]], expected: set[str]) -> None:
    made = found(Known(needs(*sets)))
    assert made.chosen == expected
    assert made.is_smallest


def test_layers_that_were_needed_only_on_the_way_are_left_out() -> None:
    # Each layer alone gains, but the large one does it all.
    known = Known(lambda chosen: 1.0 if "d" in chosen else 0.1 * len(chosen))
    assert found(known).chosen == {"d"}


def test_no_set_is_an_answer_where_nothing_suffices() -> None:
    made = found(Known(lambda chosen: 0.1 * len(chosen)))
    assert made.chosen is None


def test_one_layer_is_left_to_devices_where_the_others_are_digital() -> None:
    assert found(Known(needs(set(_SIZES)), kind="digital")).chosen is None
    assert found(Known(needs(set(_SIZES) - {"d"}), kind="digital")).chosen == set(_SIZES) - {"d"}


def test_no_more_devices_are_protected_than_allowed() -> None:
    assert found(Known(needs({"d"}, {"b", "c"})), most=120).chosen is None
    assert found(Known(needs({"d"}, {"b", "c"})), most=130).chosen == {"b", "c"}


def test_growing_goes_on_where_the_full_search_refutes_a_set() -> None:
    known, asked = Known(needs({"a"})), []

    def confirm(chosen: Chosen) -> bool:
        asked.append(chosen)
        if {"a", "c"} <= chosen:
            return True
        known.known[chosen] = Tried(
            tuple(sorted(chosen)), known.devices(chosen), Score(0.5, None, 10), False, "search", ""
        )
        return False

    assert found(known, confirm=confirm).chosen == {"a", "c"}
    assert asked[0] == {"a"}
    assert len(asked) == len(set(asked)), "no set is searched twice"


def test_layers_that_cannot_be_protected_are_not_tried() -> None:
    known = Known(needs({"a"}, {"e"}))
    known.placement.tensors["e"].helps = False
    assert found(known).chosen == {"a"}


def test_many_layers_are_exchanged_one_for_one_and_no_claim_is_made_of_all_sets() -> None:
    sizes = {f"layer{number:02}": 100 + number for number in range(20)}
    known = Known(needs({"layer19", "layer03"}, {"layer04", "layer03"}), sizes=sizes)
    made = found(known, attacks=1000)
    assert made.chosen == {"layer04", "layer03"}
    assert not made.is_smallest


def test_cheaper_sets_are_not_looked_for_without_end() -> None:
    sizes = {f"layer{number:02}": 100 + number for number in range(12)}
    known = Known(needs(set(list(sizes)[:6])), sizes=sizes)
    made = found(known, attacks=10)
    assert made.chosen is not None
    assert not made.is_smallest
