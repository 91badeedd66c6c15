"""How likely a chip is that misses a score, without a whole certificate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimrobust.certificate.blocks.rare_block import rare_event
from cimrobust.certificate.models import StoredChip
from cimrobust.counts import check_number
from cimrobust.engine.latent import check_profile
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.montecarlo.failing import rare_failures
from cimrobust.montecarlo.splitting import Splitting
from cimrobust.pipeline.arguments import check_counts
from cimrobust.pipeline.opened_item import Item
from cimrobust.progress import NullProgress, Progress
from cimrobust.reliability.chip_file import write_chip
from cimrobust.reliability.likely_chip import LikelySearch
from cimrobust.reliability.most_probable import most_probable as search_most_probable
from cimrobust.run import Run
from cimrobust.search.search_budget import budget_of


def splitting(budget: int | None = None, particles: int | None = None) -> Splitting:
    """Return the settings of splitting; a tenth of the particles is replaced at each level."""
    default = Splitting()
    count = particles or default.particles
    chosen = Splitting(particles=count, killed=max(count // 10, 1), budget=budget or default.budget)
    chosen.check()
    return chosen


def rare(
    model: str | Path,
    *,
    data: str | Path,
    below: float,
    device: str | Path = "rram-write-verify-3pct",
    tolerance: float | None = None,
    digital: Sequence[str] = (),
    particles: int | None = None,
    budget: int | None = None,
    repeats: int = 2,
    skip_most_probable: bool = False,
    effort: str = "standard",
    chip: str | Path | None = None,
    seed: int = 0,
    workers: int = 1,
    limit: int | None = None,
    calibration: str | Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Estimate how likely a drawn chip is that misses a score, however rare it is.

    Args:
        model: ONNX file.
        data: As for `analyze`.
        below: Score that a chip has to reach; an error it may not exceed.
        device: Name of a shipped device profile, or a TOML file.
        tolerance: Write-verify tolerance in place of the profile's.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
        particles: Chips of the population; None: 100.
        budget: Chips that each repeat may evaluate; None: 40000, enough for 1e-6 with room to
            spare.
        repeats: Independent repeats.
        skip_most_probable: Leave out the search for the most probable chip that misses the score,
            whose first-order probability stands beside the estimate.
        effort: Of that search: ``quick``, ``standard`` or ``thorough``.
        chip: File (safetensors) that this chip is written to; None: it is not.
        seed: Seed of every random number.
        workers: Threads; no result depends on it.
        limit: Use the first so many samples.
        calibration: As for `analyze`.
        progress: Told of every chip.

    Returns:
        As `monte_carlo.rare` of a certificate.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    check_counts(particles=particles, budget=budget, repeats=repeats, workers=workers, limit=limit)
    check_counts(seed=seed, least=0)
    check_number("below", below)
    settings = splitting(budget, particles)
    if chip is not None and skip_most_probable:
        raise UsageError(
            "a file for the most probable failing chip needs the search for it, which was left out"
            " (--skip-most-probable); leave out --chip too"
        )
    budget_of(effort)
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
    check_profile(inspection.placement.profile)
    runtime = item.open(inspection, workers=workers)
    found = rare_failures(
        runtime,
        inspection.placement,
        below=below,
        settings=settings,
        repeats=repeats,
        seed=seed,
        workers=workers,
        progress=progress or NullProgress(),
    )
    search, stored = None, None
    if not skip_most_probable:
        run = Run(seed, workers, effort, progress=progress or NullProgress())
        subject = Subject(runtime, inspection.placement)
        search = search_most_probable(subject, run, below=below)
        stored = None if chip is None else _store(Path(chip), search)
    return rare_event(
        found, higher_is_better=runtime.task.higher_is_better, search=search, stored=stored
    ).model_dump()


def _store(path: Path, search: LikelySearch) -> StoredChip | None:
    """Write the chip that was found, if one was."""
    if search.chip is None:
        return None
    try:
        write_chip(path, search)
    except OSError as err:
        raise UsageError(
            f"file for the chip must be writable, got {err.strerror} ({path}, --chip); choose"
            " another place"
        ) from err
    return StoredChip(file=path.name, sha256=sha256_of(path))
