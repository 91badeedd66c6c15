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

from cimrobust.attack.attack_context import AttackContext
from cimrobust.attack.attack_plan import FULL_ATTACK
from cimrobust.data.calibration import load_samples
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.tightening import Tightening
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.run import Run


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
    context = AttackContext(Subject(runtime, placement), Run(seed=1, effort="quick"))
    space = DeviceSpace(placement, scan)
    chosen = np.zeros(space.size, dtype=bool)
    chosen[numbers(space, options.list, round(options.share * space.size))] = True
    box = Tightening(space, 10.0).box(chosen)
    for times in (1.0, options.times):
        found = context.attack(FULL_ATTACK.scaled(times), {}, box=box)
        print(
            f"{chosen.sum()} devices verified, {found.passes} passes: worst found"
            f" {found.score.value:.4f} ({found.origin})",
            flush=True,
        )


if __name__ == "__main__":
    main()
