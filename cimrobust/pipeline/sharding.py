"""One share of the trials of an analysis, for arrays of jobs that know nothing of each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cimrobust.errors import UsageError
from cimrobust.montecarlo.shard_records import ShardManifest
from cimrobust.montecarlo.shards import Shard, draw_share
from cimrobust.pipeline.arguments import resume_folder
from cimrobust.pipeline.in_memory import takes_objects
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.pipeline.opened_analysis import open_analysis
from cimrobust.pipeline.resolved_analysis import resolve
from cimrobust.settings.analysis_settings import AnalysisSettings
from cimrobust.settings.commands import ANALYZE
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather
from cimrobust.settings.subject_settings import SubjectSettings

if TYPE_CHECKING:
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import DataLike, ModelLike
    from cimrobust.settings.typed_options import AnalyzeOptions


@dataclass(frozen=True)
class DrawnShard:
    """A shard that was drawn.

    Attributes:
        manifest: What its folder states.
        folder: Where it is.
    """

    manifest: ShardManifest
    folder: Path


@takes_settings(ANALYZE)
@takes_objects
@keeps_limits(ANALYZE)
def draw_shard(
    model: ModelLike,
    *,
    data: DataLike,
    out: str | Path,
    shard: str,
    example_input: Any = None,
    settings: AnalysisSettings | AnalyzeOptions | None = None,
    run: Run | None = None,
    **options: Unpack[AnalyzeOptions],
) -> DrawnShard:
    """Draw and score one share of the chips of an analysis, and write a folder of their own.

    Settings are those of the analysis; what is not about drawing chips changes nothing here. Once
    all shares are there, `cimrobust.analyze` with ``shards=out`` and the same settings gives the
    certificate that it gives without shards.

    Args:
        model: ONNX file, or a model in memory, as for `cimrobust.analyze`.
        data: Data description or data, as for `cimrobust.analyze`.
        out: Folder for the folders of the shards, made if missing; all shards may share it.
        shard: Which share, ``"I/N"``: ``"3/10"`` is the third of ten.
        example_input: What a `torch.nn.Module` is exported with.

    Raises:
        CimrobustError: See its subclasses for what can be wrong.
    """
    given = gather(ANALYZE, settings, run, options)
    share = Shard.parse(shard)
    stated = given.part(AnalysisSettings)
    if stated.shards is not None:
        raise UsageError(
            "a shard draws its trials itself, got a folder of others (--shards); give --shard or"
            " --shards, not both"
        )
    if stated.summary is not None:
        raise UsageError(
            "a summary must be of a certificate, got a shard (--summary, --shard); give --summary"
            " with --shards"
        )
    asked = resolve(
        given.part(SubjectSettings, model=model, data=data),
        stated,
        given.run(),
        out=Path(out),
    )
    if asked.settings.trials_on == "device":
        raise UsageError(
            "a shard scores its chips on the processor, got --trials-on device (--shard); leave it"
            " out"
        )
    share.trials(asked.num_trials)
    folder = resume_folder(asked.out, share.folder, resume=asked.settings.resume)
    opened = open_analysis(asked)
    with opened.executor() as executor:
        manifest = draw_share(
            opened.subject,
            opened.run,
            share,
            num_trials=asked.num_trials,
            folder=folder,
            executor=executor,
        )
    opened.run.progress.finish()
    return DrawnShard(manifest, folder)
