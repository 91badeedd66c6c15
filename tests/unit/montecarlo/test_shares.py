"""Trials divided over runs: every trial is in exactly one share."""

from __future__ import annotations

import pytest

from cimrobust.errors import UsageError
from cimrobust.montecarlo.shards import Shard
from cimrobust.montecarlo.trial_identity import PARTS, TrialIdentity


@pytest.mark.parametrize(("num_trials", "of"), [(1, 1), (10, 3), (7, 7), (1000, 64), (99, 98)])
def test_every_trial_is_in_one_share_and_shares_are_alike(num_trials: int, of: int) -> None:
    shares = [Shard(number, of).trials(num_trials) for number in range(1, of + 1)]
    assert [trial for share in shares for trial in share] == list(range(num_trials))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_more_shares_than_trials_are_refused() -> None:
    with pytest.raises(UsageError, match="number of shards must be at most the number of trials"):
        Shard(1, 8).trials(7)


def test_a_share_is_written_as_its_number_of_how_many() -> None:
    assert (Shard.parse(" 3/10 "), Shard.parse("1/1")) == (Shard(3, 10), Shard(1, 1))
    assert Shard(3, 10).folder == "shard-3-of-10"
    for text in ("0/3", "4/3", "1/0", "a/b", "1", "1/3/5", "-1/3", "1.0/3", "1/999999999"):
        with pytest.raises(UsageError, match="shard must be I/N with I from 1 to N"):
            Shard.parse(text)


def test_runs_that_differ_say_in_what_and_what_to_do() -> None:
    own = TrialIdentity(dict.fromkeys(PARTS, "a" * 64) | {"seed": "3"})
    assert own.differences(own.parts) == own.remedies(own.parts) == []
    other = {**own.parts, "seed": "4", "model": "b" * 64}
    del other["feeding"]
    said = own.differences(other)
    assert len(said) == len(own.remedies(other)) == 3
    assert any("(4, here 3)" in part for part in said)
    assert any(f"({'b' * 12}, here {'a' * 12})" in part for part in said)
    assert any(f"(not stated, here {'a' * 12})" in part for part in said)
    assert len({own.digest, TrialIdentity(other | {"feeding": ""}).digest}) == 2
