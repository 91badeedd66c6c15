"""Recognising tables of signal processing and geometry by their values.

They follow a formula, so no training made them.

Every test asks for more structure than training, or an example made by hand, would give a weight:
many rows, one formula for all of them, and float32 accuracy. A table that was trained on (a
learnable filter bank that starts as one, say) is off its formula and is a weight. Integer and
half-precision copies are weights too: rounding hides the formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Float64, Int64

# Of the largest magnitude. A table of 1,024 points made in float32 is off by 2e-4, since the angle
# itself is rounded.
_TOLERANCE = 5e-4
_EXACT = 1e-6
_FEWEST = 8
# Small identities are what examples are made of.
_FEWEST_SELECTED = 16
# Rows of a table of sinusoids: two numbers fit each to at least eight points.
_FEWEST_ROWS = 4
# Of a matrix that may be as large as a vocabulary: what is made of them on the way is small, and
# nothing is computed of the whole of it that its shape or a few rows tell.
_ROWS_AT_ONCE = 64


def name_of(matrix: Float[np.ndarray, "..."]) -> str | None:
    """Return what table a matrix is, None if it is none that is known.

    Args:
        matrix: Float [inputs, outputs] of one dot product each.
    """
    values = np.asarray(matrix)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all() or not values.any():
        return None
    for name, test in (
        ("positions, equally spaced", _is_positions),
        ("a selection of inputs", _is_selection),
        ("running sums", _is_running_sum),
        ("a Hadamard matrix", _is_hadamard),
        ("a grid of positions", _is_grid),
        ("sines and cosines (Fourier or cosine transform, perhaps with a window)", _is_sinusoids),
        ("triangular filters (mel filter bank)", _is_filter_bank),
    ):
        if test(values):
            return name
    return None


def same_kernels(kernels: Float[np.ndarray, "channels points"]) -> bool:
    """Tell whether all channels have one filter.

    One of blurring, averaging or interpolation, which no training gives to the last bit.

    Args:
        kernels: Float [channels, points].
    """
    channels, points = kernels.shape
    if channels < 3 or points < 2 or not (kernels == kernels[:1]).all():
        return False
    # A filter of one number is that of an average, whose numbers add up to 1; others are examples
    # made by hand.
    return bool(
        np.ptp(kernels[0]) > 0 or abs(float(kernels[0].sum(dtype=np.float64)) - 1.0) <= _EXACT
    )


def _is_positions(values: Float[np.ndarray, "inputs outputs"]) -> bool:
    """One output whose inputs count 0, 1, 2, .

    Up to scale and offset: an expectation over bins, as of box distributions.
    """
    if values.shape[1] != 1 or len(values) < _FEWEST:
        return False
    return _is_equally_spaced(values[:, 0].astype(np.float64))


def _is_equally_spaced(numbers: Float64[np.ndarray, "numbers"]) -> bool:
    steps = np.diff(numbers)
    return bool(
        np.abs(steps - steps.mean()).max(initial=0.0) <= _EXACT * np.abs(numbers).max()
        and steps.mean() != 0.0
    )


def _is_selection(values: Float[np.ndarray, "inputs outputs"]) -> bool:
    """Every output is one of the inputs: identity, permutation, reversal, space to depth."""
    if min(values.shape) < _FEWEST_SELECTED:
        return False
    num_ones = np.zeros(values.shape[1], np.int64)
    for start in range(0, len(values), _ROWS_AT_ONCE):
        some = values[start : start + _ROWS_AT_ONCE]
        ones = some == 1.0
        if not (ones | (some == 0.0)).all():
            return False
        num_ones += ones.sum(axis=0)
    return bool((num_ones == 1).all())


def _is_running_sum(values: Float[np.ndarray, "inputs outputs"]) -> bool:
    """All ones on and to one side of the diagonal, up to a factor."""
    if values.shape[0] != values.shape[1] or len(values) < _FEWEST:
        return False
    if not values[0, 0] or not np.isin(values[0] / values[0, 0], (0.0, 1.0)).all():
        return False
    scaled = values.astype(np.float64) / values[0, 0]
    return any(
        np.array_equal(scaled, triangle(np.ones_like(scaled))) for triangle in (np.tril, np.triu)
    )


def _is_hadamard(values: Float[np.ndarray, "inputs outputs"]) -> bool:
    """Signs alone, all rows orthogonal."""
    if values.shape[0] != values.shape[1] or len(values) < _FEWEST:
        return False
    top = np.float64(max(values.max(), -values.min()))
    for start in range(0, len(values), _ROWS_AT_ONCE):
        signs = values[start : start + _ROWS_AT_ONCE] / top
        if (np.abs(np.abs(signs) - 1.0) > _EXACT).any():
            return False
    signs = values / top
    return np.allclose(signs @ signs.T, len(values) * np.eye(len(values)))


def _is_grid(values: Float[np.ndarray, "inputs outputs"]) -> bool:
    """Return whether values are the coordinates of all points of a grid.

    Each output (or input) is one axis; constant ones may stand beside the axes.
    """
    return any(_is_grid_of(table) for table in (values, values.T))


def _is_grid_of(table: Float[np.ndarray, "inputs outputs"]) -> bool:
    if not 2 <= table.shape[1] <= 4 or len(table) < 2 * _FEWEST:
        return False
    table = table.astype(np.float64)
    axes = [column for column in table.T if np.ptp(column) > 0]
    constant = [column for column in table.T if np.ptp(column) == 0]
    if not axes or any(column[0] != 1.0 for column in constant) or len(axes) + len(constant) < 2:
        return False
    levels = [np.unique(np.round(column, 6)) for column in axes]
    if any(len(level) < 2 or not _is_equally_spaced(level) for level in levels):
        return False
    points = np.unique(np.round(np.stack(axes, axis=1), 6), axis=0)
    return len(points) == len(table) == int(np.prod([len(level) for level in levels]))


def _is_sinusoids(values: Float[np.ndarray, "inputs outputs"]) -> bool:
    """Return whether every output (or every input) is a sinusoid at a bin of the transform.

    All sinusoids share one window.
    """
    return any(_are_sinusoids(table) for table in (values.T, values))


def _are_sinusoids(rows: Float[np.ndarray, "rows points"]) -> bool:
    count, length = rows.shape
    if count < _FEWEST_ROWS or length < _FEWEST:
        return False
    # The sines of the lowest and of the highest frequency are zero, up to the rounding of angles.
    peaks = np.maximum(rows.max(axis=1), -rows.min(axis=1)).astype(np.float64)
    kept = peaks > 2 * _TOLERANCE * peaks.max()
    rows = rows if kept.all() else rows[kept]
    if len(rows) < _FEWEST_ROWS:
        return False
    return any(_fit(rows, window) for window in _windows(rows))


def _windows(rows: Float[np.ndarray, "rows points"]) -> list[Float64[np.ndarray, "points"]]:
    """Return windows that the rows may have in common.

    None, what sines and cosines square to, and the constant row.
    """
    squares, magnitude, total = np.zeros(rows.shape[1]), np.zeros(len(rows)), np.zeros(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE].astype(np.float64)
        squares += np.square(some).sum(axis=0)
        magnitude[start : start + _ROWS_AT_ONCE] = np.abs(some).sum(axis=1)
        total[start : start + _ROWS_AT_ONCE] = some.sum(axis=1)
    energy = np.sqrt(squares)
    first = rows[int(np.argmax(np.abs(total) / magnitude))].astype(np.float64)
    return [np.ones(rows.shape[1]), energy / energy.max(), np.abs(first) / np.abs(first).max()]


def _fit(rows: Float[np.ndarray, "rows points"], window: Float64[np.ndarray, "points"]) -> bool:
    """Return whether each row is the window times one sinusoid.

    Each sinusoid has a whole or half number of periods, and enough of them differ.
    """
    length = rows.shape[1]
    inside = np.flatnonzero(window > 0.01)
    if len(inside) < _FEWEST:
        return False
    frequencies: set[tuple[int, int]] = set()
    for stored in rows:
        row, bare = stored.astype(np.float64), np.zeros(length)
        bare[inside] = row[inside] / window[inside]
        found = _frequency(bare, inside)
        if found is None or np.abs(row[window <= 0.01]).max(initial=0.0) > 0.02 * np.abs(row).max():
            return False
        frequencies.add(found)
    return 2 * len(frequencies) >= len(rows)


def _frequency(
    signal: Float64[np.ndarray, "points"], inside: Int64[np.ndarray, "known"]
) -> tuple[int, int] | None:
    """Return half periods and phase class of the sinusoid that a signal is, None if it is none.

    The signal counts only where it is known, at the positions `inside`.
    """
    half = int(np.argmax(np.abs(np.fft.rfft(signal, 2 * len(signal)))))
    amplitude = np.abs(signal).max()
    for candidate in (half, half - 1, half + 1):
        if not 0 <= candidate <= len(signal):
            continue
        angle = np.pi * candidate * inside / len(signal)
        basis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        parts, *_ = np.linalg.lstsq(basis, signal[inside], rcond=None)
        if np.abs(basis @ parts - signal[inside]).max() <= _TOLERANCE * amplitude:
            return candidate, int(abs(parts[0]) >= abs(parts[1]))
    return None


def _is_filter_bank(values: Float[np.ndarray, "inputs outputs"]) -> bool:
    """Overlapping triangles of rising centre, one an output."""
    if (values < 0).any():
        return False
    rows = values.T[values.any(axis=0)].astype(np.float64)  # a filter between two bins has none
    if len(rows) < _FEWEST or values.shape[0] < 2 * _FEWEST:
        return False
    centres: list[int] = []
    num_wide = 0
    for row in rows:
        inside = np.flatnonzero(row)
        if len(inside) != inside[-1] - inside[0] + 1:
            return False
        centres.append(int(np.argmax(row)))
        left, right = row[inside[0] : centres[-1] + 1], row[centres[-1] : inside[-1] + 1]
        # The bins beside the peak lie on either side of it: they are on no line with what is
        # beyond.
        wide = [side for side in (left[:-1], right[1:]) if len(side) >= 3]
        if (
            any(np.ptp(np.diff(side)) > _TOLERANCE * row.max() for side in wide)
            or (np.diff(left) < 0).any()
            or (np.diff(right) > 0).any()
        ):
            return False
        num_wide += len(wide)
    rises = bool((np.diff(centres) >= 0).all()) and centres[0] < centres[-1]
    is_sparse = 2 * int(np.count_nonzero(values)) < values.size
    return rises and is_sparse and num_wide >= _FEWEST_ROWS
