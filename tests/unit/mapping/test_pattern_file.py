from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cimrobust.errors import InputRefusedError
from cimrobust.mapping import pattern_file
from cimrobust.mapping.box import Box
from cimrobust.mapping.pattern_file import read_pattern, write_pattern

_GENERATOR = np.random.default_rng(0)


def box_of_levels(shape: tuple[int, ...], column_axis: int | None = None, *, top: int = 7) -> Box:
    """Return weights whose intervals grow with the level and differ by column."""
    scale = np.float32(0.1)
    if column_axis is not None:
        sizes = [shape[column_axis] if axis == column_axis else 1 for axis in range(len(shape))]
        scale = _GENERATOR.uniform(0.1, 0.2, sizes).astype(np.float32)
    level = _GENERATOR.integers(-top, top + 1, shape)
    nominal = (level * scale).astype(np.float32)
    hi = ((1 + np.abs(level)) * scale * np.float32(0.01)).astype(np.float32)
    return Box({"w": nominal}, {"w": -hi / 2}, {"w": hi})


def at_ends_and_inside(box: Box) -> dict[str, np.ndarray]:
    pattern = box.random_corner(_GENERATOR)
    pattern["w"].flat[::7] = 0
    pattern["w"].flat[3::11] *= np.float32(0.5)
    return pattern


def expected(box: Box, pattern: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "w.nominal": box.nominal["w"],
        "w.lo": box.lo["w"],
        "w.hi": box.hi["w"],
        "w.deviation": pattern["w"],
    }


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every network for a large one."""
    monkeypatch.setattr(pattern_file, "_WHOLE_UP_TO", 0)


@pytest.mark.parametrize(
    ("shape", "column_axis", "top"),
    [
        ((61, 67), None, 7),
        ((61, 67), 0, 7),
        ((61, 67), 1, 7),
        ((40, 41, 3, 3), None, 7),
        ((40, 41, 3, 3), 0, 7),
        ((101, 103), None, 255),
        ((101, 103), None, 1000),
    ],
)
def test_a_large_network_is_read_as_it_was_bit_by_bit(shape, column_axis, top, tmp_path, large):
    box = box_of_levels(shape, column_axis, top=top)
    pattern = at_ends_and_inside(box)
    write_pattern(tmp_path / "f", box, pattern)
    assert "w.code" in load_file(tmp_path / "f")
    found = read_pattern(tmp_path / "f", what="witness")
    for key, array in expected(box, pattern).items():
        assert found[key].dtype == np.float32
        assert found[key].tobytes() == np.ascontiguousarray(array).tobytes(), key


@pytest.mark.parametrize(("top", "most"), [(7, 1.3), (255, 1.6)])
def test_a_large_network_takes_few_bytes_a_weight(top, most, tmp_path, large):
    box = box_of_levels((300, 400), top=top)
    write_pattern(tmp_path / "f", box, box.random_corner(_GENERATOR))
    assert (tmp_path / "f").stat().st_size < most * 300 * 400


def test_a_small_network_is_stored_as_it_is(tmp_path):
    box = box_of_levels((61, 67))
    pattern = at_ends_and_inside(box)
    write_pattern(tmp_path / "f", box, pattern)
    found = load_file(tmp_path / "f")
    assert found.keys() == expected(box, pattern).keys()
    for key, array in expected(box, pattern).items():
        np.testing.assert_array_equal(found[key], array)


def test_a_layer_that_no_small_table_gives_is_stored_as_it_is(tmp_path, large):
    nominal = _GENERATOR.standard_normal((61, 67)).astype(np.float32)
    box = Box({"w": nominal}, {"w": -np.abs(nominal)}, {"w": np.abs(nominal)})
    write_pattern(tmp_path / "f", box, box.zero())
    np.testing.assert_array_equal(load_file(tmp_path / "f")["w.nominal"], nominal)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("code", lambda array: array + np.uint8(200), "a number outside the table"),
        ("code", lambda array: array.astype(np.int64), "parts of types int64"),
        ("high", lambda array: np.full(5, 1, np.uint8), "high bits of 5"),
        ("high", lambda array: np.full(-(-61 * 67 // 4), 255, np.uint8), "a number outside"),
        ("start", lambda array: array - 1, "a part outside the table"),
        ("start", lambda array: array[0], "parts of shapes that do not fit"),
        ("table", lambda array: array[:, :2], "parts of shapes that do not fit"),
        ("place", lambda array: array[1:], "places of"),
        ("place", np.zeros_like, "deviations where 0 are listed"),
        ("other", lambda array: None, "a missing part"),
    ],
)
def test_damaged_tables_are_refused(part, change, said, tmp_path: Path, large):
    box = box_of_levels((61, 67))
    write_pattern(tmp_path / "f", box, at_ends_and_inside(box))
    tensors = load_file(tmp_path / "f")
    changed = change(tensors.pop(f"w.{part}"))
    if changed is not None:
        tensors[f"w.{part}"] = np.ascontiguousarray(changed)
    save_file(tensors, tmp_path / "f")
    with pytest.raises(InputRefusedError, match=rf"witness must hold sound tables, got .*{said}"):
        read_pattern(tmp_path / "f", what="witness")


def test_what_does_not_fit_into_memory_unpacked_is_refused(tmp_path, large, monkeypatch):
    box = box_of_levels((61, 67))
    write_pattern(tmp_path / "f", box, box.zero())
    monkeypatch.setattr(pattern_file, "available_memory", lambda: 61 * 67 * 32 - 1)
    with pytest.raises(InputRefusedError, match="witness must fit into memory"):
        read_pattern(tmp_path / "f", what="witness")
