"""Which devices to verify more tightly, without a whole certificate."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cimrobust.attack.attack_context import AttackContext
from cimrobust.cluster.address import Address
from cimrobust.device_level.device_list import write_device_list
from cimrobust.device_level.ranked_devices import DeviceSpace
from cimrobust.device_level.verification import Verification
from cimrobust.device_level.verification import VerifySettings as Compared
from cimrobust.device_level.write_cycles import WriteCycles
from cimrobust.device_level.write_verify import selective_verify
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.in_memory import takes_objects
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.pipeline.working_place import executor_of
from cimrobust.search.ensemble import search
from cimrobust.settings.command_settings import VerifySettings
from cimrobust.settings.commands import VERIFY
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.pipeline.inspection import Inspection
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike
    from cimrobust.settings.typed_options import VerifyOptions


@takes_settings(VERIFY)
@takes_objects
@keeps_limits(VERIFY)
def verify(
    model: ModelLike,
    *,
    data: DataLike,
    out: str | Path,
    example_input: Any = None,
    settings: VerifySettings | VerifyOptions | None = None,
    run: Run | None = None,
    **options: Unpack[VerifyOptions],
) -> dict[str, Any]:
    """Rank the devices of a model by what verifying them more tightly gains in the worst case.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        data: As for `analyze`.
        out: Parquet file for the ranked devices, as many as the largest share.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Returns:
        The table of share and ranking, and what it rests on, as plain values.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    given = gather(VERIFY, settings, run, options)
    asked, path = given.part(VerifySettings), Path(out)
    if not path.parent.is_dir():
        raise UsageError(f"folder of the list must exist, got {path.parent} (--out); make it first")
    return _ranked(
        given.part(SubjectSettings, model=model, data=data), asked, given.run(), path=path
    )


def _ranked(
    named: SubjectSettings, asked: VerifySettings, run: Run, *, path: Path
) -> dict[str, Any]:
    """Rank the devices, write the list, and describe it."""
    compared = Compared(
        shares=tuple(asked.shares), factor=asked.tighter, cycles=WriteCycles(asked.write_sigma)
    )
    cluster = None if asked.cluster is None else Address.parse(asked.cluster)
    inspection = inspect_subject(named)
    runtime = open_subject(named, inspection, workers=run.workers)
    subject = Subject(runtime, inspection.placement)
    found = search(subject, run)
    context = AttackContext(subject, replace(run, effort="quick"))
    with executor_of(cluster, partial(recipe_of, named), subject, run) as executor:
        made = selective_verify(context, found.deviations, settings=compared, executor=executor)
    space = DeviceSpace(inspection.placement, inspection.scan)
    count = made.rows[-1].devices
    write_device_list(
        path, space, made.order[:count], made.gain[:count], ranking=made.best, factor=asked.tighter
    )
    return _described(inspection, runtime, made, tighter=asked.tighter, devices=space.size) | {
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
