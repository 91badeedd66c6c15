"""Whether a written file holds what was trained.

The levels of its weights on their devices, up to what number formats round.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from cimrobust.errors import SelfCheckError

if TYPE_CHECKING:
    from cimrobust.mapping.placement import TensorPlacement

#: Largest relative error of a number written in each type, half a unit in the last place; the twin
#: works in float32, which others hold exactly.
_ROUNDING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
#: Relative error of a nominal weight, and of a weight over the scale, in float32: a few roundings
#: each, and some room.
_SAME_NOMINAL, _SAME_LEVEL = 1e-5, 2.0**-20


def check_written(
    trained: Float32[np.ndarray, "*weight"],
    nominal: Float32[np.ndarray, "*weight"],
    written: TensorPlacement,
    kind: str,
    path: Path,
) -> None:
    """Raise SelfCheckError unless the weights of a file are on the levels that were trained.

    A weight between two levels may be on either: the twin divides by the scale in float32, the
    placement in float64, and the file may round the weight itself.

    Args:
        trained: Weights as trained, float32, own shape.
        nominal: What the twin quantised them to.
        written: Where those of the file are stored.
        kind: NumPy name of the type that the file holds them in.
        path: The file.
    """
    rounding = _ROUNDING.get(kind, 0.0)
    scale = written.scale[0] if written.scale_group is None else written.scale[written.scale_group]
    # A rounded largest weight changes the scale, and with it every level.
    allowed = np.full(
        trained.shape,
        (_SAME_NOMINAL + 3.0 * rounding) * float(np.abs(written.nominal).max(initial=0.0)),
    )
    if not written.levels_given:
        level = np.divide(
            np.abs(trained.astype(np.float64)), scale, out=np.zeros(trained.shape), where=scale > 0
        )
        is_between = np.abs(level - np.floor(level) - 0.5) <= (_SAME_LEVEL + 2.0 * rounding) * level
        allowed = allowed + np.where(is_between, scale, 0.0)
    difference = np.abs(nominal.astype(np.float64) - written.nominal)
    excess = difference - allowed
    if not (excess <= 0).all():
        worst = int(np.argmax(np.where(np.isfinite(excess), excess, np.inf)))
        raise SelfCheckError(
            "written file must hold what was trained, got a difference of"
            f" {float(difference.flat[worst]):g} in '{written.initializer}' ({path}); report this"
        )
