"""How much tighter write-verify would have to be for a network as it is to withstand its devices as well as a re-trained one does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cimrobust.data.dataset import DataSet
from cimrobust.device.profile import DeviceProfile, with_tolerance
from cimrobust.engine.open import open_network
from cimrobust.graph.network import Network
from cimrobust.graph.scan import scan_layers
from cimrobust.mapping.place import place
from cimrobust.progress import Progress
from cimrobust.search.ensemble import search
from cimrobust.training.session import as_trained

_STEPS = 5
_SMALLEST_SHARE = 1 / 32
EFFORT = "quick"


def equivalent_tolerance(
    network: Network, profile: DeviceProfile, evaluation: DataSet, after: Mapping[str, Any], *, seed: int, workers: int, progress: Progress
) -> dict[str, Any]:
    """Bisect for the largest tolerance at which a quick search finds nothing worse in the old network than the full one found in the new.

    Args:
        network: The old network.
        profile: Its devices, with a tolerance that is one number.
        evaluation: Evaluation samples.
        after: Certificate of the new network.
        seed: Seed of the searches.
        workers: Threads.
        progress: Told of every search.

    Returns:
        ``tolerance`` (fraction of the conductance range, None with a ``reason`` where there is none), ``effort``.
    """
    stated = profile.device.tolerance
    if not isinstance(stated, int | float) or stated <= 0:
        return {"tolerance": None, "effort": EFFORT, "reason": "the tolerance of the profile is not one number"}
    seen, _notes = as_trained(profile)
    scan = scan_layers(network)
    runtime = open_network(network, scan, place(scan, seen), evaluation, workers=workers)
    target = float(after["worst_found"]["score"])
    held, broken = stated * _SMALLEST_SHARE, float(stated)

    def withstands(tolerance: float) -> bool:
        found = search(runtime, place(scan, with_tolerance(seen, tolerance)), effort=EFFORT, seed=seed, workers=workers, progress=progress)
        score = found.score.value
        return score >= target if runtime.task.higher_is_better else score <= target

    if withstands(broken):
        return {"tolerance": broken, "effort": EFFORT, "reason": "the old network is as good at the stated tolerance"}
    if not withstands(held):
        return {
            "tolerance": None,
            "effort": EFFORT,
            "reason": f"the old network is worse even at {100 * held:.3g} % of the conductance range",
        }
    for _ in range(_STEPS):
        middle = (held * broken) ** 0.5
        held, broken = (middle, broken) if withstands(middle) else (held, middle)
    return {"tolerance": held, "effort": EFFORT, "reason": None}
