"""The write-verify tolerance that would buy what re-training does.

How much tighter it would have to be for a network as it is to withstand its devices as well.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import Box, Pattern, box_of
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.search.ensemble import search
from cimrobust.search.given_patterns import transferred_pattern
from cimrobust.search.unit import rescaled
from cimrobust.training.session import as_trained
from cimrobust.training.training_records import Equivalent

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.decision import Score
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.network import Network
    from cimrobust.run import Run

_STEPS = 5
_SMALLEST_SHARE = 1 / 32
EFFORT = "quick"


def equivalent_tolerance(
    network: Network,
    profile: DeviceProfile,
    evaluation: DataSet,
    run: Run,
    *,
    target: float,
    witness: Path,
) -> Equivalent:
    """Bisect for the largest tolerance at which the old network is no worse than the new one.

    What is compared is the worst chip that was found.

    At every tolerance what broke the old network at others is tried first, every weight at the same
    fraction of its own interval; where that is not enough, a quick search.

    Args:
        network: The old network.
        profile: Its devices, with a tolerance that is one number.
        evaluation: Evaluation samples.
        run: How to compute; the effort of the searches is always quick.
        target: Worst score found in the new network.
        witness: Folder of the witness of the old network.

    Returns:
        The tolerance, a fraction of the conductance range; None with a reason where there is none.
    """
    stated = profile.device.tolerance
    if not isinstance(stated, int | float) or stated <= 0:
        return _at(None, "the tolerance of the profile is not one number")
    seen, _notes = as_trained(profile)
    network, scan = stored_layers(network, seen)
    placement = place(scan, seen)
    runtime = open_network(network, scan, placement, evaluation, workers=run.workers)
    breaking: list[tuple[Box, Pattern]] = []
    if (seen.tile, seen.rules) == (
        profile.tile,
        profile.rules,
    ):  # otherwise the witness has cells that the devices seen here lack
        breaking.append((box_of(placement), transferred_pattern(witness, placement)))
    held, broken = stated * _SMALLEST_SHARE, float(stated)

    def is_worse(score: Score) -> bool:
        return score.value < target if runtime.task.higher_is_better else score.value > target

    def withstands(tolerance: float) -> bool:
        placed = place(scan, with_tolerance(seen, tolerance))
        box = box_of(placed)
        for source, pattern in reversed(breaking):
            if is_worse(
                runtime.score(
                    box.weights(rescaled(pattern, of=source, to=box)), threads=run.workers
                )
            ):
                return False
        found = search(Subject(runtime, placed), replace(run, effort=EFFORT))
        if is_worse(found.score):
            breaking.append((box, dict(found.deviations)))
            return False
        return True

    if withstands(broken):
        return _at(broken, "the old network is as good at the stated tolerance")
    if not withstands(held):
        return _at(
            None, f"the old network is worse even at {100 * held:.3g} % of the conductance range"
        )
    for _ in range(_STEPS):
        middle = (held * broken) ** 0.5
        held, broken = (middle, broken) if withstands(middle) else (held, middle)
    return _at(held, None)


def _at(tolerance: float | None, reason: str | None) -> Equivalent:
    return Equivalent(tolerance=tolerance, effort=EFFORT, reason=reason)
