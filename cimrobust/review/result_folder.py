"""What a folder of results holds, and the replay that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cimrobust.certificate.certificate_files import CERTIFICATE
from cimrobust.errors import UsageError
from cimrobust.input_file import printable
from cimrobust.pipeline.retraining import DESCRIPTION
from cimrobust.pipeline.sweep import SWEEP
from cimrobust.review.at_the_reviewer import AtHand
from cimrobust.review.certificate_replay import replay_certificate
from cimrobust.review.depth import Depth
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.retrain_replay import replay_retraining
from cimrobust.review.sweep_replay import replay_sweep

_REPLAYS: Mapping[str, Callable[[Path, AtHand, Depth], list[ReplayCheck]]] = {
    CERTIFICATE: replay_certificate,
    SWEEP: replay_sweep,
    DESCRIPTION: replay_retraining,
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


def results_in(directory: Path) -> list[str]:
    """Return the names of the result files in a folder."""
    return [name for name in _REPLAYS if (directory / name).is_file()]


def require_certificate(directory: Path, *, what: str = "gate") -> None:
    """Raise UsageError for the folder of a sweep or a re-training where a certificate is asked for.

    Args:
        directory: The folder.
        what: Who asks for it.
    """
    found = results_in(directory)
    if not found or CERTIFICATE in found:
        return
    shown = printable(directory)
    hint = (
        f"{shown}/after holds the certificate of the re-trained network"
        if DESCRIPTION in found
        else (
            "a sweep has no verdict, so certify the tolerance that is to be shipped with `cimrobust"
            " analyze --tolerance`"
        )
    )
    kind = "a re-training" if DESCRIPTION in found else "a sweep"
    raise UsageError(
        f"{what} must have the folder of a certificate, got that of {kind} ({shown}, {found[0]});"
        f" {hint}"
    )
