"""What a layer costs on the chip.

How full its arrays are, and how often its converters work for one sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.mapping.planes import plane_set

if TYPE_CHECKING:
    from cimrobust.mapping.outline import LayerOutline
    from cimrobust.mapping.placement import TensorPlacement


@dataclass(frozen=True)
class ArrayLoad:
    """Load of one layer.

    Attributes:
        utilisation: Share of the cells of its tiles that hold a weight.
        vectors: Input vectors of one sample, over all its nodes; None: not known before it runs.
        passes: Reads of the array for one vector, at most.
        conversions: Conversions of bit lines for one sample, at most; None: not known, or no
            converter.
    """

    utilisation: float
    vectors: int | None
    passes: int
    conversions: int | None


def array_load(tensor: LayerOutline | TensorPlacement, vectors: Sequence[int | None]) -> ArrayLoad:
    """Return the load of one layer.

    Args:
        tensor: The layer.
        vectors: Input vectors of one sample at every node that reads it.
    """
    profile = tensor.profile
    cells = tensor.num_tiles * profile.tile.rows * profile.tile.columns
    passes = (
        1
        if profile.dac is None
        else profile.dac.num_passes(signed=profile.dac.encoding == "signed")
    )
    counts = [count for count in vectors if count is not None]
    total = sum(counts) if len(counts) == len(vectors) else None
    row_tiles = math.ceil(tensor.num_rows / profile.tile.rows)
    per_vector = len(plane_set(profile).planes) * row_tiles * passes * tensor.num_cols
    conversions = (
        None if total is None or profile.adc is None else total * per_vector * tensor.num_groups
    )
    return ArrayLoad(
        utilisation=(tensor.num_devices - tensor.num_reference_cells) / cells if cells else 0.0,
        vectors=total,
        passes=passes,
        conversions=conversions,
    )
