from __future__ import annotations

from dataclasses import replace

import pytest

from cimrobust.errors import UsageError
from cimrobust.planning.fitted_work import Amounts, fitted

WHOLE = Amounts(
    effort="quick",
    trials=300,
    samples=10_000,
    attack_samples=1000,
    passes=99,
    diagnostics="none",
)
STANDARD = replace(WHOLE, effort="standard", trials=1000, passes=2000, diagnostics="layers")


def seconds(amounts: Amounts) -> float:
    """Return a time that grows with every amount."""
    chips = 1e-5 * amounts.trials * amounts.samples
    search = 1e-3 * amounts.passes * amounts.attack_samples
    return chips + search + (1000.0 if amounts.diagnostics == "layers" else 0.0)


def fit(time: float, *given: str, effort: str = "standard") -> Amounts:
    return fitted(
        lambda name: STANDARD if name == "standard" else WHOLE,
        lambda name: 10,
        seconds,
        effort=effort,
        time=time,
        given=frozenset(given),
    )


def test_enough_time_leaves_everything_as_it_is() -> None:
    assert fit(1e6) == STANDARD


def test_what_an_effort_explains_goes_first() -> None:
    found = fit(2000.0)
    assert (found.effort, found.diagnostics) == ("standard", "none")


def test_a_lower_effort_is_whole_before_it_is_shortened() -> None:
    assert fit(180.0) == WHOLE


@pytest.mark.parametrize("time", [10.0, 30.0, 100.0, 300.0, 1000.0])
def test_what_is_chosen_fits_and_grows_with_the_time(time: float) -> None:
    found = fit(time)
    assert seconds(found) <= 0.8 * time
    assert seconds(fit(1.5 * time)) >= seconds(found)


def test_what_was_given_stays() -> None:
    found = fit(100.0, "trials", "samples", effort="quick")
    assert (found.trials, found.samples) == (300, 10_000)
    assert found.passes < 99


def test_too_little_time_names_the_least() -> None:
    least = seconds(replace(WHOLE, trials=29, samples=100, attack_samples=8, passes=10)) / 0.8
    with pytest.raises(UsageError, match=rf"least meaningful run, about {least:.1f} s here"):
        fit(0.01)
