"""Searches that are interrupted and go on: the same chip, trace and passes, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust import finished_parts
from cimrobust.attack.attack import Attack
from cimrobust.attack.attack_context import KeptAttack, kept_attack
from cimrobust.data.decision import Score
from cimrobust.engine.subject import Subject
from cimrobust.errors import SelfCheckError
from cimrobust.finished_parts import FinishedParts, digest_of
from cimrobust.mapping.box import Box
from cimrobust.run import Run
from cimrobust.search import kept_runs
from cimrobust.search.ensemble import search
from cimrobust.search.packed_pattern import PackedPattern, pack, unpack
from cimrobust.search.pass_ledger import LedgerState

QUICK = Run(effort="quick")


def without_times(found):
    """What two searches must have in common, as a digest."""
    return digest_of(
        [
            found.deviations,
            [found.score, found.file_score, found.engine_score, found.member],
            [[row.name, row.score, row.passes, row.evaluations, row.note] for row in found.members],
            [[point.passes, point.score] for point in found.curve.points],
            [found.passes, found.evaluations, found.crafting_samples, found.warnings],
        ]
    )


@pytest.fixture
def whole(small):
    return without_times(search(Subject(*small), QUICK))


def interrupted(small, folder, monkeypatch, *, writes):
    """Search until so many parts have been written, then die."""
    write = finished_parts.write_whole
    done = []

    def dies(path, content):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(finished_parts, "write_whole", dies)
        with pytest.raises(KeyboardInterrupt):
            search(Subject(*small), QUICK, parts=FinishedParts(folder, "a"))


@pytest.mark.parametrize("writes", [0, 2, 5, 9])
def test_a_search_goes_on_to_the_same_bits(small, whole, tmp_path, monkeypatch, writes):
    interrupted(small, tmp_path, monkeypatch, writes=writes)
    parts = FinishedParts(tmp_path, "a")
    assert without_times(search(Subject(*small), QUICK, parts=parts)) == whole
    assert parts.notes == []
    assert bool(parts.taken) is (writes > 0)
    again = FinishedParts(tmp_path, "a")
    assert without_times(search(Subject(*small), QUICK, parts=again)) == whole
    assert not any("run-" in name for name in again.taken)


def test_a_damaged_member_is_searched_again(small, whole, tmp_path):
    search(Subject(*small), QUICK, parts=FinishedParts(tmp_path, "a"))
    path = sorted(tmp_path.glob("search.*.part"))[-1]
    path.write_bytes(path.read_bytes()[:-9])
    parts = FinishedParts(tmp_path, "a")
    assert without_times(search(Subject(*small), QUICK, parts=parts)) == whole
    assert len(parts.notes) == 1


def test_another_seed_takes_nothing_over(small, tmp_path):
    search(Subject(*small), QUICK, parts=FinishedParts(tmp_path, "a"))
    parts = FinishedParts(tmp_path, "another run")
    search(Subject(*small), Run(effort="quick", seed=1), parts=parts)
    assert parts.taken == []


def box_of_layers():
    lo, hi = np.float32([-1, -0.0, -2, -1, -1, -1]), np.float32([1, 2, 0, 1, 1, 1])
    return Box({"w": np.zeros(6, np.float32)}, {"w": lo}, {"w": hi})


def test_a_pattern_comes_back_from_two_bits_a_weight():
    box = box_of_layers()
    pattern = {"w": np.float32([1, -0.0, 0, -1, 0.25, -1e-45])}
    packed = pack(box, pattern)
    assert packed.codes[0].nbytes == 2
    assert packed.others[0].size == 2
    assert unpack(box, packed)["w"].tobytes() == pattern["w"].tobytes()


def test_a_pattern_outside_the_box_is_refused():
    box = box_of_layers()
    packed = pack(box, {"w": np.float32([0, 0, 0, 0, 0, 1.5])})
    with pytest.raises(SelfCheckError, match="tolerance interval"):
        unpack(box, packed)


def test_a_pattern_of_other_layers_is_refused():
    box = box_of_layers()
    packed = pack(box, box.zero())
    other = Box(*({"v": array} for array in (box.nominal["w"], box.lo["w"], box.hi["w"])))
    with pytest.raises(ValueError, match="layers of the box"):
        unpack(other, packed)


@pytest.mark.parametrize(
    ("codes", "others", "message"),
    [
        (np.zeros(1, np.uint8), np.zeros(0, np.float32), r"layer must have codes of 6 weights"),
        (
            np.zeros(2, np.uint8),
            np.zeros(9, np.float32),
            "layer must have a number for every weight inside its interval",
        ),
    ],
)
def test_codes_of_another_size_are_refused(codes, others, message):
    with pytest.raises(ValueError, match=message):
        unpack(box_of_layers(), PackedPattern(("w",), (codes,), (others,)))


NOTHING = PackedPattern((), (), ())
SCORE = Score(0.5, 5, 10)


def test_kept_parts_that_deviate_fewer_layers_are_made_again(tmp_path):
    """Somebody's part of another search under the name of this one."""
    box = box_of_layers()
    parts = FinishedParts(tmp_path, "a")
    parts.keep("attack", KeptAttack(NOTHING, SCORE, np.zeros(1), "zero", (), 1, 1, 1, 1))
    made = Attack(box.zero(), SCORE, np.zeros(1), "made", (), 1, 1, 1, 1)
    assert kept_attack(parts, "attack", box, lambda: made) is made
    assert "attack must deviate every layer" in parts.notes[0]
    with pytest.raises(ValueError, match="the runs before it were others"):
        kept_runs._check_same_ledger(
            LedgerState(1, 0, 0, 0, 0.5, (), 0.0), LedgerState(2, 0, 0, 0, 0.5, (), 0.0)
        )
    with pytest.raises(ValueError, match="candidate must deviate every layer"):
        kept_runs._candidate(
            box, kept_runs.KeptCandidate(NOTHING, 0.5, 0.5, "zero", "member", True)
        )
