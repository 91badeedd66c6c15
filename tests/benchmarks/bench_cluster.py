"""Trials and certified samples on clusters: what an item costs beside its work, how workers share
them, and a killed one.

    python tests/benchmarks/bench_cluster.py > table.md

Everything is on one machine. Results are compared with those of the threads of this process; a
difference ends the benchmark.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from cluster_task import Echo, OpensNothing

from cimrobust.certify.bound_summary import certify_run
from cimrobust.cluster.address import Address
from cimrobust.cluster.executor import Threads
from cimrobust.cluster.worker import Site
from cimrobust.data.decision import Score
from cimrobust.engine.subject import Subject
from cimrobust.montecarlo.trial_identity import identity_of
from cimrobust.montecarlo.trials import ScoreTrials
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.run import Run
from cimrobust.settings.subject_settings import SubjectSettings

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
OVERHEAD_ITEMS = 600


def overheads(kinds: list[str]) -> Iterator[str]:
    """Yield rows: milliseconds an item that costs nothing, for several sizes of blocks."""
    yield "| workers | blocks of 1 | of 10 | of 50 |"
    yield "|---|---|---|---|"
    site = Site.of(OpensNothing(), "benchmark")
    for kind in kinds:
        cells = []
        for most in (1, 10, 50):
            with Address.parse(kind).open(site, most=most) as executor:
                list(executor.map_ordered(Echo(), range(8)))
                began = time.perf_counter()
                found = list(executor.map_ordered(Echo(), range(OVERHEAD_ITEMS)))
                seconds = time.perf_counter() - began
            assert found == list(range(OVERHEAD_ITEMS))
            cells.append(f"{1000 * seconds / OVERHEAD_ITEMS:.2f}")
        yield f"| `{kind}` | {' | '.join(cells)} |"


def trials(kinds: list[str], *, limit: int, num: int) -> Iterator[str]:
    """Yield rows: start and rate of every kind of workers, and with one killed in between."""
    named = SubjectSettings(SAMPLES / "digits_cnn.onnx", SAMPLES / "digits_cnn.toml", limit=limit)
    inspection = inspect_subject(named)
    subject = Subject(open_subject(named, inspection, workers=1), inspection.placement)
    began = time.perf_counter()
    expected = list(Threads(subject, 1).map_ordered(ScoreTrials(0), range(num)))
    alone = time.perf_counter() - began
    yield "| workers | until the first trial, s | all trials, s | ms a trial | with one killed, s |"
    yield "|---|---|---|---|---|"
    yield f"| 1 thread | 0 | {alone:.1f} | {1000 * alone / num:.1f} | |"
    for kind in kinds:
        start, seconds = _timed(kind, named, subject, expected)
        killed = sum(_timed(kind, named, subject, expected, kill=True))
        whole = start + seconds
        yield (
            f"| `{kind}` | {start:.1f} | {whole:.1f} | {1000 * seconds / num:.1f} | {killed:.1f} |"
        )


def bounds(kinds: list[str], *, limit: int, effort: Literal["quick", "standard"]) -> Iterator[str]:
    """Yield rows: seconds of the certified bound on every kind of workers."""
    named = SubjectSettings(SAMPLES / "digits_cnn.onnx", SAMPLES / "digits_cnn.toml", limit=limit)
    inspection = inspect_subject(named)
    subject = Subject(open_subject(named, inspection, workers=1), inspection.placement)
    run = Run(0, 1, effort)
    began = time.perf_counter()
    expected = certify_run(subject, run)
    yield "| workers | certified bound, s |"
    yield "|---|---|"
    yield f"| 1 thread | {time.perf_counter() - began:.1f} |"
    identity = identity_of(subject.runtime, subject.placement, 0)
    site = Site.of(recipe_of(named, subject, run, identity), identity.digest)
    for kind in kinds:
        began = time.perf_counter()
        with Address.parse(kind).open(site) as executor:
            found = certify_run(subject, run, executor=executor)
        yield f"| `{kind}` | {time.perf_counter() - began:.1f} |"
        assert found.score == expected.score, "the bound differs"
        assert np.array_equal(found.largest, expected.largest), "a sample differs"


def _timed(
    kind: str,
    named: SubjectSettings,
    subject: Subject,
    expected: list[Score],
    *,
    kill: bool = False,
) -> tuple[float, float]:
    """Return the seconds until the first trial, and from there to the last."""
    identity = identity_of(subject.runtime, subject.placement, 0)
    site = Site.of(recipe_of(named, subject, Run(0), identity), identity.digest)
    began, found = time.perf_counter(), []
    with Address.parse(kind).open(site) as executor:
        for score in executor.map_ordered(ScoreTrials(0), range(len(expected))):
            if not found:
                first = time.perf_counter()
            found.append(score)
            if kill and len(found) == len(expected) // 3:
                victim = multiprocessing.active_children()[0]
                assert victim.pid is not None
                os.kill(victim.pid, signal.SIGKILL)
        last = time.perf_counter()
    assert found == expected, "the table differs"
    return first - began, last - first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--bounds", choices=["quick", "standard"], help="this in place of trials")
    arguments = parser.parse_args()
    kinds = ["processes:1", "processes:2", "local:1", "local:2", "local:4"]
    if not arguments.bounds:
        for row in overheads(["processes:2", "local:2"]):
            print(row)
        print()
        for row in trials(kinds, limit=arguments.limit, num=arguments.trials):
            print(row)
        return
    for row in bounds(kinds, limit=arguments.limit, effort=arguments.bounds):
        print(row, flush=True)


if __name__ == "__main__":
    main()
