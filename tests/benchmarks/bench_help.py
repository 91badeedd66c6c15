"""How long `cimrobust --help` takes, beside starting Python at all.

    python -m pytest tests/benchmarks/bench_help.py -s

Goal: under 0.4 seconds; what counts on another machine is the ratio to an empty Python process in
the same run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 9
GOAL_SECONDS = 0.4


def seconds(command: list[str]) -> float:
    """Return the wall-clock time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def test_help_answers_at_once():
    pairs = [
        (
            seconds([sys.executable, "-m", "cimrobust", "--help"]),
            seconds([sys.executable, "-c", "pass"]),
        )
        for _ in range(REPEATS)
    ]
    ours, empty = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"help {ours:.3f} s, empty process {empty:.3f} s, ratio {ours / empty:.1f}")
    assert ours < GOAL_SECONDS
