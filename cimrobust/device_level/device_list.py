"""The ranked list of devices that a programming station takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from cimrobust.files import write_whole

if TYPE_CHECKING:
    from cimrobust.device_level.ranked_devices import DeviceSpace


def write_device_list(
    path: Path,
    space: DeviceSpace,
    order: Int64[np.ndarray, "listed"],
    gain: Float64[np.ndarray, "listed"],
    *,
    ranking: str,
    factor: float,
) -> None:
    """Write ranked devices to a Parquet file, whole or not at all.

    One row a device, the most urgent first.

    Columns ``rank`` (from 1), ``layer``, ``group``, ``row``, ``column``, ``slice``, ``side``,
    ``gain``; places as in `Places`. The same list gives the same bytes.

    Args:
        path: The file.
        space: The devices.
        order: Devices to list.
        gain: What the ranking gives each of them.
        ranking: Name of the ranking, kept in the file.
        factor: How many times tighter the devices are to be verified, kept in the file.
    """
    places = space.places(order)
    words = np.array(space.sides(places), dtype=object)
    columns = {
        "rank": pa.array(np.arange(1, order.size + 1), pa.int64()),
        "layer": pa.DictionaryArray.from_arrays(
            pa.array(places.layer, pa.int32()), pa.array(list(space.names), pa.string())
        ),
        "group": pa.array(places.group, pa.int32()),
        "row": pa.array(places.row, pa.int32()),
        "column": pa.array(places.column, pa.int32()),
        "slice": pa.array(places.slice_index, pa.int8()),
        "side": pa.array(words, pa.string()).dictionary_encode(),
        "gain": pa.array(gain.astype(np.float32), pa.float32()),
    }
    sink = pa.BufferOutputStream()
    metadata = {
        "ranking": ranking,
        "tighter": f"{factor:g}",
        "device": space.placement.profile.name,
    }
    pq.write_table(pa.table(columns, metadata=metadata), sink, compression="zstd")
    write_whole(path, sink.getvalue().to_pybytes())
