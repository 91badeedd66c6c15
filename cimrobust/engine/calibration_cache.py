"""Calibration results, kept by the content they follow from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust import __version__
from cimrobust.engine.codings import ArrayRanges
from cimrobust.errors import CimrobustError
from cimrobust.files import write_whole
from cimrobust.input_file import FileKind, read_input
from cimrobust.json_file import parse_json

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.network import Network

_CACHE = FileKind("calibration", 2**28)


def calibration_key(
    network: Network,
    placement: Placement,
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]],
) -> str:
    """Return a digest of everything that ranges follow from.

    Tool, model, weights, coding, converters, tiles, samples.
    """
    profile = placement.profile.to_dict()
    own = {
        name: tensor.profile
        for name, tensor in placement.tensors.items()
        if placement.profile.rules
    }
    described = {
        "version": __version__,
        "model": [[file.name, file.sha256] for file in network.files],
        "profile": {table: profile.get(table) for table in ("weight", "tile", "dac", "adc")},
        "bits": placement.profile.device.bits,
        "own": {
            name: [asdict(item.weight), item.device.bits, asdict(item.tile)]
            for name, item in own.items()
        },
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, array in sorted({**inputs, **constants, **placement.nominal()}.items()):
        values = np.ascontiguousarray(array)
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def read_ranges(key: str, arrays: Collection[str]) -> dict[str, ArrayRanges] | None:
    """Return the ranges kept under a key; None where there are none for exactly these products."""
    try:
        kept = parse_json(read_input(_file(key), _CACHE))
        entries = kept["ranges"]
        if kept["sha256"] != _digest(entries):
            return None
        ranges = {name: _ranges(entry) for name, entry in entries.items()}
    except (CimrobustError, ValueError, TypeError, KeyError, AttributeError):
        return None  # what cannot be read is measured again
    return ranges if set(ranges) == set(arrays) else None


def write_ranges(key: str, ranges: Mapping[str, ArrayRanges]) -> None:
    """Keep ranges under a key.

    Where the folder cannot be written, they are measured again next time.
    """
    entries = {
        name: {
            "low": entry.low,
            "high": entry.high,
            "sums": None if entry.sums is None else entry.sums.tolist(),
        }
        for name, entry in ranges.items()
    }
    try:
        _file(key).parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            _file(key), json.dumps({"ranges": entries, "sha256": _digest(entries)}).encode()
        )
    except OSError:
        return


def _digest(entries: object) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _ranges(entry: Mapping[str, object]) -> ArrayRanges:
    sums = entry["sums"]
    return ArrayRanges(
        float(str(entry["low"])),
        float(str(entry["high"])),
        None if sums is None else np.array(sums, dtype=np.float64),
    )


def _file(key: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cimrobust" / "calibration" / f"{key}.json"
