"""How likely a chip is that misses a score, without a whole certificate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cimrobust.certificate.blocks.rare_block import rare_event
from cimrobust.certificate.models import StoredChip
from cimrobust.cluster.address import Address
from cimrobust.counts import check_number
from cimrobust.engine.latent import check_profile
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.montecarlo.failing import rare_failures
from cimrobust.montecarlo.splitting import splitting
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.in_memory import takes_objects
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.pipeline.working_place import executor_of
from cimrobust.reliability.chip_file import write_chip
from cimrobust.reliability.most_probable import most_probable as search_most_probable
from cimrobust.settings.command_settings import RareSettings
from cimrobust.settings.commands import RARE
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.reliability.likely_chip import LikelySearch
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike
    from cimrobust.settings.typed_options import RareOptions


@takes_settings(RARE)
@takes_objects
@keeps_limits(RARE)
def rare(
    model: ModelLike,
    *,
    data: DataLike,
    below: float,
    example_input: Any = None,
    settings: RareSettings | RareOptions | None = None,
    run: Run | None = None,
    **options: Unpack[RareOptions],
) -> dict[str, Any]:
    """Estimate how likely a drawn chip is that misses a score, however rare it is.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        data: As for `analyze`.
        below: Score that a chip has to reach; an error it may not exceed.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Returns:
        As `monte_carlo.rare` of a certificate.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    given = gather(RARE, settings, run, options)
    check_number("below", below)
    asked = given.part(RareSettings)
    if asked.chip is not None and asked.skip_most_probable:
        raise UsageError(
            "a file for the most probable failing chip needs the search for it, which was left out"
            " (--skip-most-probable); leave out --chip too"
        )
    return _estimated(
        given.part(SubjectSettings, model=model, data=data), asked, given.run(), below=below
    )


def _estimated(
    named: SubjectSettings, asked: RareSettings, run: Run, *, below: float
) -> dict[str, Any]:
    """Estimate, and search for the most probable failing chip unless it is left out."""
    how = splitting(asked.budget, asked.particles)
    cluster = None if asked.cluster is None else Address.parse(asked.cluster)
    inspection = inspect_subject(named)
    check_profile(inspection.placement.profile)
    runtime = open_subject(named, inspection, workers=run.workers)
    subject = Subject(runtime, inspection.placement)
    with executor_of(cluster, partial(recipe_of, named), subject, run) as executor:
        found = rare_failures(
            subject, run, below=below, settings=how, repeats=asked.repeats, executor=executor
        )
    search, stored = None, None
    if not asked.skip_most_probable:
        search = search_most_probable(subject, run, below=below)
        stored = None if asked.chip is None else _store(Path(asked.chip), search)
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
