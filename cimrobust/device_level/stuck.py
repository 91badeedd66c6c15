"""The stuck-cell budget.

The worst that so many stuck devices can do, beside as many drawn at random and as many chosen by
magnitude.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32

from cimrobust.attack.diagnosis_protocol import DiagnosisRequest, Diagnostic, Finding
from cimrobust.device_level.device_level_records import (
    StuckCurve,
    StuckDevice,
    StuckDevices,
    StuckPoint,
)
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.stuck_chip import HIGH, Choice, StuckChips, kinds_of, nothing_stuck
from cimrobust.device_level.stuck_search import (
    StuckEffort,
    StuckSearch,
    magnitude_choice,
    random_choices,
)
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.device_levels import target_levels
from cimrobust.onnx_io.save import save_model
from cimrobust.search.witness import MODEL_FILE, witness_model
from cimrobust.search.witness_replay import compare_replay, replay_file

if TYPE_CHECKING:
    from cimrobust.attack.attack_context import AttackContext
    from cimrobust.data.decision import Score

# Devices listed for the largest budget; the list of smaller ones is complete.
_LISTED = 100
#: Stuck devices of a chip that are asked about.
BUDGETS = (1, 2, 5, 10, 20, 50, 100)
AT_TARGETS, AT_WORST = (
    "all other devices at their targets",
    "all other devices as in the worst pattern found",
)


@dataclass(frozen=True)
class StuckSettings:
    """What is asked.

    Attributes:
        budgets: Numbers of stuck devices, ascending.
        draws: Random controls for each.
        effort: What the search may spend.
    """

    budgets: tuple[int, ...] = BUDGETS
    draws: int = 20
    effort: StuckEffort = field(default_factory=StuckEffort)


class StuckBudget(StuckDevices):
    """What few stuck devices can do, and what it took to find out."""

    passes: int
    """Forward and backward passes."""
    evaluations: int
    """Forward runs over the attack set."""


def stuck_budget(
    context: AttackContext,
    worst: Mapping[str, Float32[np.ndarray, "..."]],
    *,
    settings: StuckSettings | None = None,
) -> StuckBudget:
    """Find the few devices that do the most harm when they are stuck.

    Args:
        context: The network, how to compute, and its twin.
        worst: The worst pattern found inside the tolerance box.
        settings: What is asked; None: the defaults.

    Raises:
        SelfCheckError: A chip's file does not score what the engine says.
    """
    subject, progress = context.subject, context.run.progress
    space = DeviceSpace(subject.placement, subject.scan)
    kinds, settings = kinds_of(subject.placement.profile), settings or StuckSettings()
    progress.start("Stuck devices", 2 * len(settings.budgets))
    scorer = context.scorer()
    curves = []
    for others, base in ((AT_TARGETS, subject.box.zero()), (AT_WORST, dict(worst))):
        chips = StuckChips(space, base)
        search = StuckSearch(scorer, chips, kinds, others, settings.effort, progress)
        with one_torch_thread():
            found = search.run(settings.budgets)
        curves.append(_curve(search, found, settings, others))
    progress.finish()
    return StuckBudget(
        curves=tuple(curves),
        kinds=tuple(_word(kind) for kind in kinds),
        ranking="gain" if context.has_gradient else "slice significance and layer probes",
        draws=settings.draws,
        total_devices=space.size,
        crafting_samples=len(context.twin.attack_set),
        passes=scorer.ledger.passes,
        evaluations=scorer.ledger.evaluations,
    )


def _curve(
    search: StuckSearch, found: Mapping[int, Choice], settings: StuckSettings, others: str
) -> StuckCurve:
    problem = search.problem
    base, base_file = _replayed(search, nothing_stuck())
    points: list[StuckPoint] = []
    best = (base, base_file, nothing_stuck())
    for budget in settings.budgets:
        score, file_score = _replayed(search, found[budget])
        # At most so many devices: what fewer did still counts.
        if problem.task.is_worse(score, best[0]):
            best = (score, file_score, found[budget])
        count = min(budget, search.space.size)
        drawn = random_choices(search.chips, search.kinds, count, settings.draws, problem.random)
        values = list(map_ordered(partial(_value, search), drawn, workers=problem.run.workers))
        points.append(
            StuckPoint(
                budget=budget,
                score=best[0].value,
                correct=best[0].count,
                file_score=best[1].value,
                magnitude=_score(search, magnitude_choice(search.chips, search.kinds, count)).value,
                random_mean=float(np.mean(values)),
                random_worst=min(values) if problem.task.higher_is_better else max(values),
                devices=stuck_devices(search.chips, best[2])[:_LISTED],
            )
        )
    return StuckCurve(others=others, base=base.value, points=tuple(points))


def stuck_devices(chips: StuckChips, choice: Choice) -> tuple[StuckDevice, ...]:
    """Return stuck devices with their places."""
    space = chips.space
    places = space.places(choice.device)
    target = {
        name: target_levels(tensor).reshape(-1) for name, tensor in space.placement.tensors.items()
    }
    found = []
    for index, side in enumerate(space.sides(places)):
        layer, device, kind = (
            int(places.layer[index]),
            int(choice.device[index]),
            int(choice.kind[index]),
        )
        name = space.names[layer]
        found.append(
            StuckDevice(
                layer=name,
                group=int(places.group[index]),
                row=int(places.row[index]),
                column=int(places.column[index]),
                slice_index=int(places.slice_index[index]),
                side=side,  # type: ignore[arg-type]  # checked by pydantic
                stuck=_word(kind),
                target=float(target[name][device - int(space.starts[layer])]),
                weight_change=float(chips.change[kind, device]),
            )
        )
    return tuple(found)


def _replayed(search: StuckSearch, choice: Choice) -> tuple[Score, Score]:
    """Return the score of a chip on all samples, and that of its model file in a fresh session."""
    runtime, workers = search.problem.runtime, search.problem.run.workers
    weights = search.chips.weights(choice)
    dataset = runtime.dataset
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as folder:
        path = Path(folder) / MODEL_FILE
        save_model(witness_model(runtime, weights), path)
        file_score = replay_file(path, dataset, runtime.task, workers=workers)
    plain = runtime.task.score(
        runtime.plain.run(weights, dataset.inputs, dataset.constants, threads=workers)
    )
    compare_replay(runtime, plain, file_score)
    return (file_score if runtime.converters is None else _score(search, choice)), file_score


def _score(search: StuckSearch, choice: Choice, *, threads: int | None = None) -> Score:
    runtime = search.problem.runtime
    chip = search.chips.chip(choice, as_levels=runtime.converters is not None)
    return runtime.score(chip, threads=threads or search.problem.run.workers)


def _value(search: StuckSearch, choice: Choice) -> float:
    return _score(search, choice, threads=1).value


def _word(kind: int) -> Literal["low", "high"]:
    return "high" if kind == HIGH else "low"


def _run(request: DiagnosisRequest) -> Finding:
    found = stuck_budget(
        request.context, request.found.deviations, settings=_EFFORTS[request.run.effort]
    )
    # What it took is no part of the block: a certificate that is read has none.
    stated = {name: getattr(found, name) for name in StuckDevices.model_fields}
    return Finding(StuckDevices(**stated), found.passes, found.evaluations)


_EFFORTS = {
    "quick": StuckSettings(
        (1, 2, 5, 10, 20, 50), draws=5, effort=StuckEffort(exchanges=3, rounds=6)
    ),
    "standard": StuckSettings(draws=10),
    "thorough": StuckSettings((*BUDGETS, 200, 500)),
}

STUCK_DEVICES = Diagnostic("stuck_devices", "Stuck devices", _run, gives=StuckDevices)
