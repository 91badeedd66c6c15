"""The deviations that lie with a certificate, beside the box of model and profile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.errors import InputRefusedError
from cimrobust.mapping.pattern_file import read_pattern
from cimrobust.review.agreement import RTOL
from cimrobust.search.witness import DEVIATIONS_FILE

if TYPE_CHECKING:
    from cimrobust.mapping.box import Box, Pattern


def stored_pattern(path: Path, box: Box) -> Pattern:
    """Read the deviations of a witness, brought into the box where they leave it by rounding alone.

    Args:
        path: The file of deviations.
        box: The box of model and profile.

    Raises:
        InputRefusedError: Deviations are missing or leave the box.
    """
    tensors = read_pattern(path, what="deviations of the witness")
    pattern: Pattern = {}
    for name, low in box.lo.items():
        deviation = tensors.get(f"{name}.deviation")
        if deviation is None or deviation.shape != low.shape or deviation.dtype != np.float32:
            raise InputRefusedError(
                f"witness must have float32 deviations of '{name}' {list(low.shape)}, got none"
                f" ({DEVIATIONS_FILE})"
            )
        slack = RTOL * (np.abs(low) + np.abs(box.hi[name]))
        if not ((low - slack <= deviation) & (deviation <= box.hi[name] + slack)).all():
            raise InputRefusedError(
                f"deviations of '{name}' must lie in the box of model and profile, got others"
                f" ({DEVIATIONS_FILE})"
            )
        pattern[name] = np.clip(deviation, low, box.hi[name])
    return pattern


def wrong_parts(tensors: Mapping[str, Shaped[np.ndarray, "..."]], box: Box) -> dict[str, list[str]]:
    """Return the layers of a witness that do not state what model and profile give.

    They are listed for the nominal weights and for both ends of the intervals.

    Args:
        tensors: The file of deviations.
        box: The box of model and profile.
    """
    parts = {"nominal": box.nominal, "lo": box.lo, "hi": box.hi}
    return {
        part: [
            name
            for name, array in expected.items()
            if not _is_close(tensors.get(f"{name}.{part}"), array, box.hi[name])
        ]
        for part, expected in parts.items()
    }


def _is_close(
    stated: Shaped[np.ndarray, "..."] | None,
    derived: Float32[np.ndarray, "*weight"],
    reach: Float32[np.ndarray, "*weight"],
) -> bool:
    """Tell whether an array is what follows, but for the rounding of another machine."""
    if stated is None or stated.shape != derived.shape:
        return False
    allowed = RTOL * (np.abs(derived) + np.abs(reach))
    return bool((np.abs(stated - derived) <= allowed).all())
