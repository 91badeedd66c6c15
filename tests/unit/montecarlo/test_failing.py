"""What splitting refuses to start."""

from __future__ import annotations

import pytest

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo import failing
from cimrobust.montecarlo.splitting import Splitting
from cimrobust.run import Run
from tests.unit.search.conftest import opened, small  # noqa: F401


def test_populations_beyond_memory_are_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"population must fit in .* GiB, got .* \(option --particles\); use at most 42$",
    ):
        failing._check_memory(50_000_000, 100)


def test_a_population_that_just_fits_is_taken() -> None:
    failing._check_memory(2**31 // 100, 100)
    with pytest.raises(UsageError, match="use at most 99"):
        failing._check_memory(2**31 // 100 + 1, 100)


@pytest.mark.parametrize("repeats", [0, -1])
def test_no_repeat_is_no_estimate(
    small: tuple[Runtime, Placement],  # noqa: F811
    repeats: int,
) -> None:
    with pytest.raises(UsageError, match=f"number of repeats must be at least 1, got {repeats};"):
        failing.rare_failures(
            Subject(*small), Run(workers=1), below=0.5, settings=Splitting(), repeats=repeats
        )


class Steps:
    """What progress is told."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.ended = 0

    def start(self, name: str, total: int) -> None:
        self.names.append(f"{name} of {total}")

    def advance(self, steps: int = 1, note: str = "") -> None:
        pass

    def finish(self) -> None:
        self.ended += 1


FEW = Splitting(particles=10, killed=5, moves=1, budget=20)


def test_two_repeats_are_made_each_of_its_own(
    small: tuple[Runtime, Placement],  # noqa: F811
) -> None:
    steps = Steps()
    made = failing.rare_failures(
        Subject(*small), Run(seed=3, workers=1, progress=steps), below=0.9, settings=FEW
    )
    assert steps.names == ["Rare failures, repeat 1 of 20", "Rare failures, repeat 2 of 20"]
    assert steps.ended == 2
    assert len(made.runs) == 2
    assert made.runs[0] != made.runs[1]
    assert (made.num_decisions, made.num_wrong, made.seed) == (200, 21, 3)


def test_a_population_that_does_not_fit_is_refused_before_any_chip(
    small: tuple[Runtime, Placement],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failing, "_MOST_BYTES", 100)
    steps = Steps()
    with pytest.raises(UsageError, match="population must fit in"):
        failing.rare_failures(
            Subject(*small), Run(workers=1, progress=steps), below=0.9, settings=FEW
        )
    assert steps.names == []
