"""Measured conductances of programmed devices, from a CSV file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from jaxtyping import Float64, Int64

from cimrobust.device.window import WindowTable
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, read_input, refusing_what_fails

#: Largest file that is read, and fewest devices of one target: fewer say nothing about tails.
MAX_BYTES = 2**30
MIN_DEVICES = 20

# Targets nearer than this, as a fraction of the full range, are one state.
_SAME_STATE = 1e-6


@dataclass(frozen=True)
class Measurements:
    """Devices that were programmed to some targets.

    Attributes:
        window: The programmable range; None: the file holds normalised conductances.
        targets: Target conductances, normalised, ascending, float64 [targets].
        deviations: Per target the measured deviations, fractions of the full range, ascending.
        num_outside: Devices outside the window.
    """

    window: WindowTable | None
    targets: Float64[np.ndarray, "targets"]
    deviations: tuple[Float64[np.ndarray, "_devices"], ...]
    num_outside: int

    @property
    def num_devices(self) -> int:
        """Devices measured."""
        return sum(len(values) for values in self.deviations)


def read_measurements(
    path: Path,
    *,
    target_column: str = "target",
    measured_column: str = "measured",
    g_min: float | None = None,
    g_max: float | None = None,
    relative: bool = False,
) -> Measurements:
    """Read a CSV with one device a row.

    Args:
        path: The file; its first row names the columns.
        target_column: Column of the conductances that were asked for.
        measured_column: Column of the conductances that were measured.
        g_min: Lowest conductance of the range, microsiemens; None: the smallest target.
        g_max: Highest; None: the largest target.
        relative: Conductances are normalised: 0 is g_min, 1 is g_max.

    Raises:
        UsageError: There is no such file or column, or the range is empty.
        InputRefusedError: The file is no table of numbers, or has too few devices of some target.
    """
    target, measured = _columns(path, target_column, measured_column)
    window = None
    if not relative:
        low, high = (
            (float(target.min()) if g_min is None else g_min),
            (float(target.max()) if g_max is None else g_max),
        )
        if not 0 <= low < high:
            raise UsageError(
                f"conductance range must rise from 0 or more, got {low:g} to {high:g} (--g-min,"
                " --g-max); state the device's range"
            )
        window = WindowTable(low, high)
        target, measured = ((values - low) / (high - low) for values in (target, measured))
    wrong = np.flatnonzero((target < -1e-9) | (target > 1 + 1e-9))
    if wrong.size:
        raise InputRefusedError(
            f"targets must lie in the conductance range, got {target[wrong[0]]:g} of it ({path},"
            f" row {wrong[0] + 2}); correct --g-min and --g-max, or the unit"
        )
    states = _states(target)
    groups = tuple(
        np.sort(measured[states == index] - target[states == index].mean())
        for index in range(states.max() + 1)
    )
    centres = np.array([target[states == index].mean() for index in range(len(groups))])
    few = [
        (centre, len(group))
        for centre, group in zip(centres, groups, strict=True)
        if len(group) < MIN_DEVICES
    ]
    if few:
        raise InputRefusedError(
            f"every target must have at least {MIN_DEVICES} devices, got {few[0][1]} at"
            f" {few[0][0]:.4g} of the range and {len(few)} such targets of {len(groups)} ({path});"
            " measure more devices, or round the targets to states"
        )
    outside = int(((measured < 0) | (measured > 1)).sum())
    return Measurements(window, np.clip(centres, 0.0, 1.0), groups, outside)


def _columns(path: Path, *names: str) -> tuple[Float64[np.ndarray, "rows"], ...]:
    content = read_input(
        path,
        FileKind("measurements", MAX_BYTES, hint="check the path, or take a sample of the devices"),
    )
    with refusing_what_fails(
        "measurements must be a CSV table with a header", path, hint="check its rows"
    ):
        table = pa_csv.read_csv(pa.BufferReader(content))
    missing = [name for name in names if table.column_names.count(name) != 1]
    if missing:
        raise UsageError(
            f"measurements must have one column '{missing[0]}', got {table.column_names[:20]}"
            f" ({path}); name it by --target-column or --measured-column"
        )
    return tuple(_numbers(table, name, path) for name in names)


def _numbers(table: pa.Table, name: str, path: Path) -> Float64[np.ndarray, "rows"]:
    column = table.column(name)
    if len(column) == 0:
        raise InputRefusedError(
            f"measurements must have rows, got none ({path}); measure some devices"
        )
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise InputRefusedError(
            f"column '{name}' must hold numbers, got {column.type} ({path}); code it as numbers"
        )
    values = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise InputRefusedError(
            f"column '{name}' must hold finite numbers, got none ({path}, row {wrong[0] + 2});"
            " leave such devices out"
        )
    return values


def _states(target: Float64[np.ndarray, "rows"]) -> Int64[np.ndarray, "rows"]:
    """Return the number of the state that every target belongs to, ascending."""
    order = np.argsort(target, kind="stable")
    steps = np.concatenate([[0], np.cumsum(np.diff(target[order]) > _SAME_STATE)])
    states = np.empty(len(target), dtype=np.int64)
    states[order] = steps
    return states
