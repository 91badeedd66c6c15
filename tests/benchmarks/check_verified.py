"""Is a short attack enough? Attacks the box that a list of `cimrobust verify` leaves with many
times the passes.

Run: python tests/benchmarks/check_verified.py MODEL DATA LIST.parquet SHARE [--tolerance T]
[--limit N] [--times 6]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cimrobust.attack.box_attack import AttackPlan, attack_box
from cimrobust.data.calibration import load_samples
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.tightening import Tightening
from cimrobust.engine.open import open_network
from cimrobust.engine.torch_device import open_device
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.progress import NullProgress
from cimrobust.search.gradients import open_gradients
from cimrobust.search.problem import UNLIMITED, Problem
from cimrobust.search.search_budget import budget_of


def numbers(space: DeviceSpace, path: Path, count: int) -> np.ndarray:
    """Return the first devices of a list, as numbers of the device space, found by their places."""
    table = pq.read_table(path).slice(0, count)
    layer, group, row, column, part, side = (
        table.column(name).to_pylist()
        for name in ("layer", "group", "row", "column", "slice", "side")
    )
    wanted = set(zip(layer, group, row, column, part, side, strict=True))
    places = space.places(np.arange(space.size))
    names = [space.names[index] for index in places.layer.tolist()]
    words = space.sides(places)
    keys = zip(
        names,
        places.group.tolist(),
        places.row.tolist(),
        places.column.tolist(),
        places.slice_index.tolist(),
        words,
        strict=True,
    )
    return np.flatnonzero([key in wanted for key in keys])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("list", type=Path)
    parser.add_argument("share", type=float)
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--times", type=float, default=6.0)
    options = parser.parse_args()
    inspection = inspect_model(
        options.model, device="rram-write-verify-3pct", tolerance=options.tolerance
    )
    placement, scan = inspection.placement, inspection.scan
    dataset, _ = load_samples(
        options.data,
        None,
        inputs=inspection.network.inputs,
        limit=options.limit,
        needs_calibration=False,
    )
    runtime = open_network(inspection.network, scan, placement, dataset)
    opened = open_gradients(
        runtime, placement, budget_of("quick"), seed=1, workers=1, device=open_device("cpu")
    )
    space = DeviceSpace(placement, scan)
    chosen = np.zeros(space.size, dtype=bool)
    chosen[numbers(space, options.list, round(options.share * space.size))] = True
    box = Tightening(space, 10.0).box(chosen)
    for times in (1.0, options.times):
        problem = Problem(
            runtime,
            box,
            opened.crafting,
            opened.oracle,
            1,
            1,
            NullProgress(),
            most_passes=UNLIMITED,
        )
        found = attack_box(problem, {}, AttackPlan().scaled(times))
        print(
            f"{chosen.sum()} devices verified, {problem.passes} passes: worst found"
            f" {found.score.value:.4f} ({found.origin})",
            flush=True,
        )


if __name__ == "__main__":
    main()
