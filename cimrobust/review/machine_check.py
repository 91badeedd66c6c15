"""What may differ where a certificate is replayed on another machine than it was made on."""

from __future__ import annotations

from typing import Any

from cimrobust.engine.machine import this_machine
from cimrobust.input_file import printable
from cimrobust.review.machine_stated import Made, machine_stated
from cimrobust.review.replay_check import ReplayCheck

_MAY = (
    "the last bits of float32 sums, so a decision on the edge and the scores by it; seconds. What"
    " may not: digests, the box, devices and weights of the witness, drawn chips, statistics of the"
    " stored trials, intervals, and the sums of integer products"
)


def machine_check(result: Made) -> ReplayCheck:
    """Compare the machine that made a result with this one; a difference breaks no claim."""
    stated = machine_stated(result)
    if stated.held is False:
        return stated
    made = result.machine
    if made is None:
        return ReplayCheck(
            "machine",
            None,
            f"{printable(result.machine_reason)[:200]}. What may differ on another machine: {_MAY}",
        )
    was, here = made.model_dump(), this_machine().model_dump()
    other = {key: (was[key], here[key]) for key in here if was[key] != here[key]}
    if not other:
        return ReplayCheck(
            "machine", True, f"made on the same kind of machine: {_shown(here['processor'])}"
        )
    listed = "; ".join(
        f"{key.replace('_', ' ')} {_shown(then)}, here {_shown(now)}"
        for key, (then, now) in other.items()
    )
    return ReplayCheck("machine", None, f"made with {listed}. What may differ: {_MAY}")


def is_same_machine(made: Made) -> bool:
    """Return whether a result was made on a machine like this one, by the same libraries.

    Then every number must be the same.
    """
    return made.machine is not None and made.machine == this_machine()


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, list | tuple) else str(value or "unknown")
