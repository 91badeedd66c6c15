"""Parts of a run on disk: taken over where they can be used, else made again with a note."""

from __future__ import annotations

import errno
import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from jaxtyping import Bool
from safetensors.numpy import save

from cimrobust import finished_parts
from cimrobust.data.decision import Score
from cimrobust.diagnose.diagnose_records import Attacked, LayerAttack, LayerAttacks
from cimrobust.finished_parts import NOTHING_KEPT, FinishedParts, digest_of
from cimrobust.typed_values import as_plain, from_plain


class Pair(NamedTuple):
    first: float
    second: int


@dataclass(frozen=True)
class Part:
    number: float
    count: int | None
    texts: tuple[str, ...]
    pair: Pair
    score: Score
    arrays: dict[str, np.ndarray]
    held: Bool[np.ndarray, "samples"] | None
    record: LayerAttacks


ATTACKED = Attacked(score=0.1, correct=3, origin="from zero")
PART = Part(
    0.1 + 0.2,
    None,
    ("a", "ü"),
    Pair(-math.inf, 2),
    Score(1 / 3, 1, 3),
    {"w": np.array([[-0.0, 1e-45, np.inf]], np.float32), "": np.zeros((0, 2))},
    np.array([True, False]),
    LayerAttacks(
        rows=(LayerAttack(initializer="w", alone=ATTACKED, others=None),),
        crafting_samples=4,
        passes_each=2,
    ),
)


def never():
    raise AssertionError("it is made again")


def test_a_part_comes_back_with_the_same_bits(tmp_path):
    FinishedParts(tmp_path, "a").keep("x", PART)
    found = FinishedParts(tmp_path, "a").recall("x", Part, never)
    assert digest_of(found) == digest_of(PART)
    assert found.arrays["w"].tobytes() == PART.arrays["w"].tobytes()
    assert type(found.pair) is Pair
    assert found.record == PART.record


def test_an_array_that_occurs_twice_is_written_once():
    array, arrays = np.arange(3.0), {}
    as_plain([array, {"again": array}], arrays)
    assert len(arrays) == 1


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda content: content[:-1], "it is damaged"),
        (lambda content: content[:70] + bytes([content[70] ^ 1]) + content[71:], "damaged"),
        (lambda content: b"", "damaged"),
        (lambda content: b"cut off", "damaged"),
    ],
)
def test_a_damaged_part_is_made_again_and_a_note_says_so(tmp_path, harm, why):
    FinishedParts(tmp_path, "a").keep("x", PART)
    path = tmp_path / "x.part"
    path.write_bytes(harm(path.read_bytes()))
    parts = FinishedParts(tmp_path, "a")
    assert parts.recall("x", Part, lambda: PART) is PART
    assert why in parts.notes[0]
    assert FinishedParts(tmp_path, "a").find("x", Part) is not None


def test_a_part_of_another_run_or_of_other_input_is_made_again(tmp_path):
    FinishedParts(tmp_path, "a").within("s", np.arange(3)).keep("x", PART)
    for other in (
        FinishedParts(tmp_path, "b").within("s", np.arange(3)),
        FinishedParts(tmp_path, "a").within("s", np.arange(3.0)),
        FinishedParts(tmp_path, "a").within("s"),
    ):
        assert other.find("x", Part) is None
        assert "it is of another run: its model, data, settings, tool or machine" in other.notes[0]
    assert FinishedParts(tmp_path, "a").within("s", np.arange(3)).find("x", Part) is not None


@pytest.mark.parametrize("kind", [Score, Pair, Attacked])
def test_a_part_of_another_type_is_made_again(tmp_path, kind):
    parts = FinishedParts(tmp_path, "a")
    parts.keep("x", PART)
    assert parts.find("x", kind) is None
    assert kind.__name__ in parts.notes[0]


def test_a_part_that_makes_no_sense_is_made_again(tmp_path):
    def check(part):
        raise ValueError("it leaves the box")

    parts = FinishedParts(tmp_path, "a")
    parts.keep("x", PART)
    assert parts.find("x", Part, check) is None
    assert "it leaves the box" in parts.notes[0]


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (int, True),
        (int, 1.0),
        (float, "1"),
        (float, {"number": "huge"}),
        (bool, 1),
        (str, None),
        (Score, {"value": 1.0, "count": 1}),
        (Score, {"value": 1.0, "count": 1, "num_samples": 1, "more": 1}),
        (Pair, [1.0]),
        (Part, []),
    ],
)
def test_values_of_another_type_are_refused(kind, plain):
    with pytest.raises(ValueError, match="must"):
        from_plain(kind, plain, {})


@pytest.mark.parametrize(
    ("kind", "plain", "message"),
    [
        (int, "1", "int must be of another type, got str"),
        (Pair, [1.0], "Pair must be a list of 2 entries"),
        (Score, {"value": 1.0}, "Score must have the fields value, count, num_samples"),
        (np.ndarray, {"array": "0"}, "ndarray must be one of the arrays of the file"),
        (set, [], "set cannot be read: no rule for <class 'set'>"),
    ],
)
def test_what_is_wrong_is_told(kind, plain, message):
    with pytest.raises(ValueError, match=message):
        from_plain(kind, plain, {})


def test_what_has_no_form_on_disk_is_refused():
    with pytest.raises(TypeError, match="value must be made of numbers, texts and arrays, got"):
        as_plain({1, 2}, {})


def test_a_part_beyond_memory_is_made_again(tmp_path, monkeypatch):
    FinishedParts(tmp_path, "a").keep("x", PART)
    monkeypatch.setattr(finished_parts, "available_memory", lambda: 100)
    parts = FinishedParts(tmp_path, "a")
    assert parts.find("x", Part) is None
    assert "it does not fit into memory" in parts.notes[0]


def test_a_file_of_something_else_is_no_part(tmp_path):
    FinishedParts(tmp_path, "a").keep("x", PART)
    body = save({"w": np.zeros(1)})
    (tmp_path / "x.part").write_bytes(hashlib.sha256(body).hexdigest().encode() + body)
    parts = FinishedParts(tmp_path, "a")
    assert parts.find("x", Part) is None
    assert "it is no part of a run" in parts.notes[0]


def test_an_array_of_another_type_is_refused():
    plain = as_plain(PART, arrays := {})
    arrays[plain["held"]["array"]] = np.zeros(2)
    with pytest.raises(ValueError, match=r"Part\.held must"):
        from_plain(Part, plain, arrays)


def test_a_full_disk_costs_the_part_alone(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(finished_parts, "write_whole", full)
    parts = FinishedParts(tmp_path, "a")
    assert parts.recall("x", Part, lambda: PART) is PART
    assert "No space left" in parts.notes[0]
    assert list(tmp_path.iterdir()) == []


def test_names_that_differ_have_files_that_differ(tmp_path):
    parts = FinishedParts(tmp_path, "a")
    for name in ("a/b", "a_b", "../a", "ä", "n" * 300, "n" * 301):
        parts.keep(name, name)
    assert [parts.find(name, str) for name in ("a/b", "a_b", "../a")] == ["a/b", "a_b", "../a"]
    assert len(list(tmp_path.iterdir())) == 6


def test_a_store_is_dropped_without_its_neighbours(tmp_path):
    parts = FinishedParts(tmp_path, "a")
    for name in ("s[1]", "s"):
        parts.within(name).keep("x", 1)
    parts.within("s[1]").drop()
    assert [parts.within(name).find("x", int) for name in ("s[1]", "s")] == [None, 1]


def test_without_a_folder_nothing_is_kept():
    assert NOTHING_KEPT.within("s", object()).recall("x", int, lambda: 3) == 3
    assert not NOTHING_KEPT.keeps
