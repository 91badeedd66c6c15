"""The claims of a result, derived again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cimrobust.certificate.result_names import CERTIFICATE, RETRAINING, SWEEP
from cimrobust.pipeline.in_memory import given_folder, takes_objects
from cimrobust.pipeline.limits import keeps_limits
from cimrobust.review.at_the_reviewer import AtHand
from cimrobust.review.certificate_replay import replay_certificate
from cimrobust.review.depth import Depth
from cimrobust.review.result_files import results_in
from cimrobust.review.retrain_replay import Replay, replay_retraining
from cimrobust.review.reviewers_workers import ReviewersAddress
from cimrobust.review.sweep_replay import replay_sweep
from cimrobust.settings.command_settings import ReplaySettings
from cimrobust.settings.commands import REPLAY
from cimrobust.settings.documented import takes_settings
from cimrobust.settings.gathered import gather

if TYPE_CHECKING:
    from cimrobust.review.replay_check import ReplayCheck
    from cimrobust.run import Run
    from cimrobust.settings.python_inputs import FolderLike
    from cimrobust.settings.typed_options import ReplayOptions


#: The replay that belongs to every kind of result.
_REPLAYS: Mapping[str, Replay] = {
    CERTIFICATE: replay_certificate,
    SWEEP: replay_sweep,
    RETRAINING: partial(replay_retraining, of_certificate=replay_certificate),
}


@takes_settings(REPLAY)
@takes_objects
@keeps_limits(REPLAY)
def replay(
    directory: FolderLike,
    *,
    example_input: Any = None,
    settings: ReplaySettings | ReplayOptions | None = None,
    run: Run | None = None,
    **options: Unpack[ReplayOptions],
) -> list[ReplayCheck]:
    """Derive the claims of a certificate, a sweep or a re-training again: from its files.

    With model and data, every number that follows from them.

    Args:
        directory: Folder of certificate.json, sweep.json or retrain.json, or the result that lies
            in it.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Returns:
        One check a claim.

    Raises:
        InputRefusedError: There is no result, or it does not follow its schema.
        UsageError: A setting is wrong, or the workers of a cluster fail.
    """
    given = gather(REPLAY, settings, run, options)
    asked = given.part(ReplaySettings)
    seed = secrets.randbits(32) if asked.reviewer_seed is None else asked.reviewer_seed
    cluster = None if asked.cluster is None else ReviewersAddress.parse(asked.cluster)
    run = replace(given.run(), seed=seed)
    depth = Depth(asked.redraw, asked.search, asked.rerun, cluster, run)
    folder, at_hand = given_folder(directory), _at_hand(asked)
    # There is one, unless several commands wrote into the folder.
    found = results_in(folder) or [CERTIFICATE]
    return [check for name in found for check in _REPLAYS[name](folder, at_hand, depth)]


def _at_hand(asked: ReplaySettings) -> AtHand:
    """Return what the reviewer has: files as paths, what may be something else as text."""

    def path(given: str | Path | None) -> Path | None:
        return None if given is None else Path(given)

    def text(given: str | Path | None) -> str | None:
        return None if given is None else str(given)

    return AtHand(
        model=path(asked.model),
        data=text(asked.data),
        labels_of=path(asked.labels_of),
        calibration=text(asked.calibration),
        transfer=path(asked.transfer),
        device=text(asked.device),
        policy=path(asked.policy),
    )
