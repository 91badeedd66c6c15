"""Folders of shards: all there once, of this run, whole, or refused by what is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cimrobust.data.decision import Score
from cimrobust.errors import CimrobustError, InputRefusedError, UsageError
from cimrobust.montecarlo.shards import FORMAT, MANIFEST, TRIALS, Shard, find_shards
from cimrobust.montecarlo.trial_checkpoint import Checkpoint
from cimrobust.montecarlo.trial_identity import PARTS, TrialIdentity

IDENTITY = TrialIdentity(dict.fromkeys(PARTS, "a" * 64))
NUM_TRIALS = 7


def score(trial: int) -> Score:
    return Score(trial / 10, trial, 10)


def shard(
    folder: Path,
    number: int,
    of: int = 3,
    *,
    trials: int = NUM_TRIALS,
    drawn: Iterable[int] | None = None,
    name: str = "",
    **stated: Any,
) -> Path:
    """Write a finished shard, which states something else of itself where asked to."""
    share = Shard(number, of)
    place = folder / (name or share.folder)
    place.mkdir()
    with Checkpoint(place / TRIALS, IDENTITY.digest) as checkpoint:
        for trial in share.trials(trials) if drawn is None else drawn:
            checkpoint.add(trial, score(trial))
    manifest = {
        "format": FORMAT,
        "shard": number,
        "of": of,
        "trials": trials,
        "identity": dict(IDENTITY.parts),
        "trials_sha256": hashlib.sha256((place / TRIALS).read_bytes()).hexdigest(),
    }
    (place / MANIFEST).write_text(json.dumps(manifest | stated))
    return place


def whole(folder: Path) -> list[Path]:
    return [shard(folder, number) for number in (3, 1, 2)]


def refused(folder: Path, kind: type[CimrobustError], said: str, trials: int = NUM_TRIALS) -> None:
    with pytest.raises(kind, match=said):
        find_shards(folder, trials).scores(IDENTITY)


def test_all_shards_together_have_every_trial_once(tmp_path: Path) -> None:
    whole(tmp_path)
    found = find_shards(tmp_path, NUM_TRIALS)
    assert [manifest.shard for _, manifest in found.found] == [1, 2, 3]
    assert found.scores(IDENTITY) == {trial: score(trial) for trial in range(NUM_TRIALS)}


def test_what_else_is_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    whole(tmp_path)
    (tmp_path / "shard-9-of-9").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / MANIFEST).write_text("{}")
    assert len(find_shards(tmp_path, NUM_TRIALS).found) == 3


def test_a_folder_without_finished_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shard-1-of-3").mkdir()
    refused(tmp_path, UsageError, "folder of shards must hold finished ones, got none")
    refused(tmp_path / "none", UsageError, "folder of shards must be readable, got No such file")


def test_shards_of_two_divisions_are_refused(tmp_path: Path) -> None:
    whole(tmp_path)
    shard(tmp_path, 1, 2)
    refused(tmp_path, UsageError, "got 2 shards of 7 trials, 3 shards of 7 trials")


def test_shards_of_more_trials_are_refused(tmp_path: Path) -> None:
    whole(tmp_path)
    refused(tmp_path, UsageError, "got 7 trials where this run has 8", trials=8)


def test_a_shard_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    whole(tmp_path)
    shard(tmp_path, 2, name="shard-again")
    refused(
        tmp_path, UsageError, "every shard must be there once, got shard-2-of-3 and shard-again"
    )


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    shard(tmp_path, 2)
    refused(tmp_path, UsageError, r"all 3 shards must be there and finished, got none of 1/3, 3/3 ")


def test_of_many_that_are_missing_twenty_are_named(tmp_path: Path) -> None:
    shard(tmp_path, 2, 23, trials=23)
    refused(tmp_path, UsageError, "1/23, 3/23, .*, 21/23 and 2 more", trials=23)


def test_of_twenty_that_are_missing_all_are_named(tmp_path: Path) -> None:
    shard(tmp_path, 21, 21, trials=21)
    refused(tmp_path, UsageError, r"19/21, 20/21 \(", trials=21)


def test_a_shard_of_another_run_says_in_what_it_differs(tmp_path: Path) -> None:
    shard(tmp_path, 1, 1, identity={**IDENTITY.parts, "seed": "3"})
    refused(tmp_path, UsageError, "must be of this run, .* seed .3, here a{12}.*give the same --se")


def test_a_file_of_trials_that_was_changed_is_refused(tmp_path: Path) -> None:
    for path in whole(tmp_path):
        content = (path / TRIALS).read_bytes()
        (path / TRIALS).write_bytes(content.replace(b'"samples": 10', b'"samples": 11'))
    refused(tmp_path, InputRefusedError, "trials of a shard must have the digest of its manifest")


def test_a_shard_without_its_trials_is_refused(tmp_path: Path) -> None:
    (whole(tmp_path)[0] / TRIALS).unlink()
    refused(tmp_path, InputRefusedError, "trials of a shard")


def test_a_shard_that_lacks_trials_of_its_share_is_refused(tmp_path: Path) -> None:
    shard(tmp_path, 1, 1, drawn=[0, 1, 2, 4, 6])
    refused(
        tmp_path,
        InputRefusedError,
        "shard must hold trials 0 to 6, got 2 of them missing, the first 3 ",
    )


def test_trials_beyond_the_share_are_not_taken(tmp_path: Path) -> None:
    shard(tmp_path, 1, 2, drawn=range(NUM_TRIALS))
    shard(tmp_path, 2, 2)
    scores = find_shards(tmp_path, NUM_TRIALS).scores(IDENTITY)
    assert list(scores) == list(range(NUM_TRIALS))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "cimrobust shard 2"},
        {"shard": 4},
        {"shard": 0},
        {"of": "many"},
        {"trials": 10**9},
        {"identity": {"seed": 3}},
        {"more": 1},
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = shard(tmp_path, 1) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(tmp_path, InputRefusedError, f"manifest of a shard must be in the format '{FORMAT}'")


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (shard(tmp_path, 1) / MANIFEST).write_text("{")
    refused(tmp_path, InputRefusedError, "manifest of a shard must be in the format")
