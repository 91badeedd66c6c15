"""The replay that belongs to every kind of result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.result_names import CERTIFICATE, RETRAINING, SWEEP
from cimrobust.review.certificate_replay import replay_certificate
from cimrobust.review.result_files import results_in
from cimrobust.review.retrain_replay import replay_retraining
from cimrobust.review.sweep_replay import replay_sweep

if TYPE_CHECKING:
    from cimrobust.review.at_the_reviewer import AtHand
    from cimrobust.review.depth import Depth
    from cimrobust.review.replay_check import ReplayCheck

_REPLAYS: Mapping[str, Callable[[Path, AtHand, Depth], list[ReplayCheck]]] = {
    CERTIFICATE: replay_certificate,
    SWEEP: replay_sweep,
    RETRAINING: replay_retraining,
}


def replay_folder(directory: Path, at_hand: AtHand, depth: Depth) -> list[ReplayCheck]:
    """Replay every result of a folder; there is one, unless several commands wrote into it.

    Args:
        directory: The folder.
        at_hand: What the reviewer has beside it.
        depth: How much is computed again.

    Raises:
        InputRefusedError: There is none, or it does not follow its schema.
    """
    found = results_in(directory) or [CERTIFICATE]
    return [check for name in found for check in _REPLAYS[name](directory, at_hand, depth)]
