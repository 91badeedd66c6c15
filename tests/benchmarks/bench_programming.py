"""What programming one chip costs, as a multiple of one NumPy pass over its weights.

    python -m pytest tests/benchmarks/bench_programming.py -s

Reference, in the same run: NumPy's fastest generator (SFC64) draws one float32 normal for each
device, and the weights are read and written once. Goal: at
most 2 times that. Medians of alternating runs, one thread.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from cimrobust import _native
from cimrobust.device.load_profile import load_profile
from cimrobust.engine.kernel import program_chip
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

SHAPE = (2048, 1024)
REPEATS = 9
GOAL = 2.0


def measure(profile: str, simd: str) -> float:
    """Return the ratio of medians."""
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    column = np.broadcast_to(np.arange(SHAPE[1], dtype=np.int32), SHAPE)
    placement = place(
        LayerScan((CrossbarLayer("w", (), SHAPE, 1, *SHAPE, values, column),), ()),
        load_profile(profile),
    )
    nominal, cells = placement.tensors["w"].nominal, placement.tensors["w"].cells_per_weight
    out, normals, copy = (
        {"w": np.empty_like(nominal)},
        np.empty(nominal.size * cells, np.float32),
        np.empty_like(nominal),
    )
    generator = np.random.Generator(np.random.SFC64(0))
    ours, theirs = [], []
    for trial in range(REPEATS):
        start = time.perf_counter()
        program_chip(placement, seed=0, trial=trial, out=out, simd=simd)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        generator.standard_normal(dtype=np.float32, out=normals)
        np.add(nominal, np.float32(0.1), out=copy)
        theirs.append(time.perf_counter() - start)
    return statistics.median(ours) / statistics.median(theirs)


@pytest.mark.parametrize("simd", _native.simd_levels())
@pytest.mark.parametrize(
    "profile", ["rram-write-verify-3pct", "rram-differential-3pct", "pcm-no-verify"]
)
def test_programming_costs_less_than_twice_a_numpy_pass(profile, simd):
    ratio = measure(profile, simd)
    print(f"{profile:<26} {simd:<8} {ratio:.2f}")
    assert ratio <= GOAL
