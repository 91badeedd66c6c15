"""Effects in turn: every row has one effect more, and the last has those of the profile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.device.effect_tables import DriftTable, FaultsTable, RelaxationTable
from cimrobust.device.load_profile import load_profile
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.montecarlo.effect_costs import add_effects
from cimrobust.run import Run
from tests.unit.search.conftest import MLP, Opener, mlp_weights, opened, samples  # noqa: F401

_EFFECTS = {
    "stuck devices": {"faults": FaultsTable(0.05, 0.05)},
    "relaxation": {"relaxation": RelaxationTable(0.05)},
    "drift": {"drift": DriftTable(1e6, exponent_mean=0.06, exponent_sd=0.02)},
}


@pytest.mark.parametrize("chosen", [(), ("relaxation",), tuple(_EFFECTS)])
def test_rows_are_the_effects_of_the_profile_in_turn(
    opened: Opener,  # noqa: F811
    chosen: tuple[str, ...],
) -> None:
    tables = {key: value for name in chosen for key, value in _EFFECTS[name].items()}
    profile = replace(load_profile("rram-write-verify-3pct"), **tables)
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(60, 6)}, profile=profile)
    rows = add_effects(Subject(runtime, placement), Run(3), num_chips=4)
    assert [row.effect for row in rows] == [
        "float weights",
        "quantised weights",
        "programming",
        *chosen,
    ]
    assert [row.chips for row in rows] == [0, 0] + [4] * (1 + len(chosen))
    assert (rows[0].mean, rows[1].mean) == (runtime.clean.value, runtime.quantised.value)
    later = ("faults", "relaxation", "drift")
    without = {"programming": later, "stuck devices": later[1:], "relaxation": later[2:]}
    for row in rows[2:]:
        left = dict.fromkeys(without.get(row.effect, ()), False)
        own = place(runtime.scan, profile.with_effects(**left)) if left else placement
        scores = [
            runtime.score(runtime.engine.draw(own, seed=3, trial=trial)).value for trial in range(4)
        ]
        assert (row.low, row.high) == (min(scores), max(scores))
        assert row.mean == pytest.approx(np.mean(scores))
    means = [row.mean for row in rows]
    assert [row.change for row in rows] == pytest.approx([0.0, *np.diff(means)])


class Told:
    """Notes what a progress is told."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0

    def start(self, name: str, total: int) -> None:
        self.total += total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps

    def finish(self) -> None:
        assert self.done == self.total


def test_every_chip_is_a_step_of_the_progress(opened: Opener) -> None:  # noqa: F811
    profile = replace(load_profile("rram-write-verify-3pct"), **_EFFECTS["drift"])
    runtime, placement = opened(MLP, mlp_weights(), {"x": samples(60, 6)}, profile=profile)
    told = Told()
    add_effects(Subject(runtime, placement), Run(3, progress=told), num_chips=4)
    assert (told.total, told.done) == (8, 8)
