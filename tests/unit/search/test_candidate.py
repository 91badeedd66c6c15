from __future__ import annotations

import numpy as np
import torch

from cimrobust.mapping.box import Box
from cimrobust.search.candidate import Candidate, Earlier, Key, most_promising
from cimrobust.search.torch_patterns import shared_tensors


def found(member: str, score: float, smooth: float = 0.5, *, is_new: bool = True) -> Candidate:
    return Candidate({}, Key(score, smooth), f"{score}", member, is_new)


def test_fewer_correct_decisions_are_worse_and_smoothed_accuracy_breaks_ties() -> None:
    assert Key(3.0, 0.9) < Key(4.0, 0.1)
    assert Key(3.0, 0.1) < Key(3.0, 0.2)


def test_the_best_of_every_member_the_worst_for_the_network_first() -> None:
    earlier = Earlier().and_found([found("a", 5.0), found("b", 7.0), found("a", 4.0)])
    assert [(best.member, best.key.score) for best in earlier.best] == [("a", 4.0), ("b", 7.0)]


def test_of_equals_the_first_found_and_the_first_member_count() -> None:
    first, second = found("b", 4.0), found("b", 4.0)
    earlier = Earlier().and_found([first, second]).and_found([found("a", 4.0)])
    assert [best.member for best in earlier.best] == ["b", "a"]
    assert earlier.best[0] is first


def test_what_was_known_before_is_nobodys_find() -> None:
    earlier = Earlier().and_found([found("a", 4.0, is_new=False)])
    assert earlier.best == ()


def test_a_start_counts_as_found_and_stays_known_as_a_start() -> None:
    start = found("given", 4.0)
    earlier = Earlier().and_start(start).and_found([found("a", 5.0)])
    assert earlier.starts == (start,)
    assert earlier.best[0] is start
    assert earlier.of("a")[0].key.score == 5.0


def test_what_is_known_before_does_not_change() -> None:
    before = Earlier().and_found([found("a", 5.0)])
    after = before.and_found([found("a", 4.0)])
    assert before.best[0].key.score == 5.0
    assert after.best[0].key.score == 4.0


def test_four_candidates_of_a_member_are_promising() -> None:
    scores = [3.0, 1.0, 5.0, 2.0, 4.0]
    best = most_promising([found("a", score) for score in scores])
    assert [candidate.key.score for candidate in best] == [1.0, 2.0, 3.0, 4.0]


def test_a_shelved_candidate_is_the_same_to_the_bit_in_little_space() -> None:
    size = 1000
    lo, hi = np.full(size, -1, np.float32), np.full(size, 2, np.float32)
    box = Box({"w": np.zeros(size, np.float32)}, {"w": lo}, {"w": hi})
    deviation = np.where(np.arange(size) % 3 == 0, lo, hi)
    deviation[:3] = [-0.0, 0.25, 7.0]  # the last one outside: whoever scores it has to see that
    plain = Candidate({"w": deviation}, Key(1.0, 0.5), "here", "a")
    shelved = plain.shelved(box)
    assert shelved.pattern["w"].tobytes() == deviation.tobytes()
    assert (shelved.key, shelved.origin, shelved.member) == (plain.key, "here", "a")
    packed = shelved.packed(box)
    assert shelved.shelved(box).packed(box) is packed
    assert sum(array.nbytes for array in (*packed.codes, *packed.others)) == size // 4 + 4 * 3


def test_a_box_is_not_copied_for_torch() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.setflags(write=False)
    tensor = shared_tensors({"w": array})["w"]
    assert tensor.data_ptr() == array.ctypes.data
    assert torch.equal(tensor, torch.arange(6.0).reshape(2, 3))
    del array
    assert float(tensor.sum()) == 15.0
