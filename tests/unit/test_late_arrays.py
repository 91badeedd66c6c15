"""Arrays that are made when they are read."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.late_arrays import LateArrays


def test_arrays_are_made_whenever_they_are_read_and_not_held() -> None:
    made: list[str] = []

    def make(name: str) -> np.ndarray:
        made.append(name)
        return np.full(2, len(made), np.float32)

    arrays = LateArrays(["b", "a"], make)
    assert (list(arrays), len(arrays), "a" in arrays, "c" in arrays) == (["b", "a"], 2, True, False)
    assert made == []
    assert [arrays["a"][0], arrays["a"][0]] == [1, 2]
    assert {name: array[0] for name, array in arrays.items()} == {"b": 3, "a": 4}
    with pytest.raises(KeyError):
        arrays["c"]
