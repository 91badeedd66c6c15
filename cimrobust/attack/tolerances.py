"""One network at several write-verify tolerances.

Boxes in each other, and patterns carried from one to the next.

A pattern of a smaller box lies in every larger one, so the worst score found can only fall as the
tolerance grows: what was found for a smaller one is found for a larger one too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from cimrobust.device.intervals import largest_programming_error
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.engine.subject import Subject
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.place import place
from cimrobust.search.unit import rescaled

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.mapping.box import Box, Pattern


def stated_tolerance(profile: DeviceProfile) -> float:
    """Return the write-verify tolerance that a profile states, the largest over levels and sides.

    Z sigmas where it has none.
    """
    return largest_programming_error(profile)


def at_tolerance(subject: Subject, tolerance: float, *, workers: int = 1) -> Subject:
    """Return the same network on devices with another write-verify tolerance.

    Args:
        subject: The network, opened and placed at its own tolerance.
        tolerance: Fraction of the full conductance range.
        workers: Threads; no result depends on it.

    Raises:
        InputRefusedError: Weights leave float32 at this tolerance.
        SelfCheckError: The stored weights are other ones; they do not depend on the tolerance.
    """
    runtime, placement = subject.runtime, subject.placement
    placed = place(subject.scan, with_tolerance(placement.profile, tolerance))
    if any(
        not np.array_equal(placed.tensors[name].nominal, tensor.nominal)
        for name, tensor in placement.tensors.items()
    ):
        raise SelfCheckError(
            f"stored weights must not depend on the tolerance, got others at {tolerance:g}; report"
            " this"
        )
    engine, converters = runtime.engine, runtime.converters
    if not isinstance(engine, KernelEngine) or converters is None:
        return Subject(runtime, placed)
    kernel = KernelEngine(
        runtime.plain.deployed,
        placed,
        output=engine.output,
        feeding=engine.feeding,
        ranges=converters.ranges,
        workers=workers,
    )
    return Subject(replace(runtime, engine=kernel), placed)


def carried(
    pattern: Mapping[str, Float32[np.ndarray, "..."]], source: Box, target: Box
) -> dict[str, Pattern]:
    """Return starts for one box from a pattern of another.

    As it is, brought inside, and stretched to the same share of every interval.
    """
    return {"as it is": target.clip(pattern), "stretched": rescaled(pattern, of=source, to=target)}
