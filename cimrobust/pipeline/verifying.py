"""Which devices to verify more tightly, without a whole certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimrobust.counts import check_number
from cimrobust.device_level.device_list import write_device_list
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.tightening import WriteCycles
from cimrobust.device_level.verification import SHARES, Verification, VerifySettings
from cimrobust.device_level.write_verify import selective_verify
from cimrobust.engine.open import Runtime
from cimrobust.engine.torch_device import open_device
from cimrobust.errors import UsageError
from cimrobust.pipeline.arguments import check_counts
from cimrobust.pipeline.inspection import Inspection
from cimrobust.pipeline.opened_item import Item
from cimrobust.progress import NullProgress, Progress
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import open_gradients
from cimrobust.search.search_budget import budget_of


def verify(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    device: str | Path = "rram-write-verify-3pct",
    tolerance: float | None = None,
    digital: Sequence[str] = (),
    shares: tuple[float, ...] = SHARES,
    tighter: float = 10.0,
    write_sigma: float = 0.1,
    effort: str = "quick",
    seed: int = 0,
    workers: int = 1,
    limit: int | None = None,
    calibration: str | Path | None = None,
    device_type: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rank the devices of a model by how much verifying them more tightly helps against the worst case, and write the list.

    Args:
        model: ONNX file.
        data: As for `analyze`.
        out: Parquet file for the ranked devices, as many as the largest share.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
        shares: Shares of all devices to verify more tightly, ascending.
        tighter: How many times tighter.
        write_sigma: Standard deviation of one write as a fraction of the full range, for the number
            of writes.
        effort: Effort of the search on the full box.
        seed: Seed of every random number.
        workers: Threads; no result depends on it.
        limit: Use the first so many samples.
        calibration: As for `analyze`.
        device_type: Where gradients are computed, ``cpu`` or ``cuda``.
        progress: Told of every attack.

    Returns:
        The table of share and ranking, and what it rests on, as plain values.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    check_counts(workers=workers, limit=limit)
    check_counts(seed=seed, least=0)
    check_number("write-sigma", write_sigma, above=0)
    check_number("tighter", tighter, above=1)
    settings = VerifySettings(shares=tuple(shares), factor=tighter, cycles=WriteCycles(write_sigma))
    told, path = progress or NullProgress(), Path(out)
    if not path.parent.is_dir():
        raise UsageError(f"folder of the list must exist, got {path.parent} (--out); make it first")
    item = Item(
        model,
        data,
        device,
        tolerance=tolerance,
        digital=digital,
        limit=limit,
        calibration=calibration,
    )
    inspection = item.inspect()
    placement, scan = inspection.placement, inspection.scan
    runtime = item.open(inspection, workers=workers)
    found = search(
        runtime,
        placement,
        effort=effort,
        seed=seed,
        workers=workers,
        progress=told,
        device_type=device_type,
    )
    opened = open_gradients(
        runtime,
        placement,
        budget_of("quick"),
        seed=seed,
        workers=workers,
        device=open_device(device_type),
    )
    made = selective_verify(
        runtime,
        placement,
        scan,
        opened,
        found.deviations,
        settings=settings,
        seed=seed,
        workers=workers,
        progress=told,
    )
    space = DeviceSpace(placement, scan)
    count = made.rows[-1].devices
    write_device_list(
        path, space, made.order[:count], made.gain[:count], ranking=made.best, factor=tighter
    )
    return _described(inspection, runtime, made, tighter=tighter, devices=space.size) | {
        "list": path.name,
        "listed_devices": count,
    }


def _described(
    inspection: Inspection, runtime: Runtime, made: Verification, *, tighter: float, devices: int
) -> dict[str, Any]:
    """Return what was compared and what came of it."""
    return {
        "model": inspection.network.path.name,
        "device": inspection.placement.profile.name,
        "metric": runtime.task.metric,
        "samples": made.base.num_samples,
        "crafting_samples": made.crafting_samples,
        "quantised": runtime.nominal.value,
        "worst_found": made.base.value,
        "tighter": tighter,
        "total_devices": devices,
        "writes_per_device": {
            "without": made.writes[0],
            "verified": made.writes[1],
            "write_sigma": made.write_sigma,
        },
        "best_ranking": made.best,
        "rows": [row.model_dump() for row in made.rows],
        "random_draws": made.draws,
        "passes": made.passes,
        "evaluations": made.evaluations,
    }
