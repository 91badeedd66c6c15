"""The file of a deviation pattern: the box, the nominal weights and the deviations in it.

Small networks have all four of every layer as they are, so that any reader of safetensors can check
them. In large ones they would take 16 bytes a weight and say little: intervals follow from the
nominal weight, which has few values, and most deviations lie at an end of theirs. There every
weight has the number of its nominal weight and interval in a table, and two bits that say where in
it the weight lies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save

from cimrobust.array_shapes import Float32, Int64, Shaped, UInt8
from cimrobust.available_memory import available_memory
from cimrobust.errors import InputRefusedError
from cimrobust.files import write_whole
from cimrobust.input_file import printable
from cimrobust.tensor_file import read_tensors

if TYPE_CHECKING:
    from cimrobust.mapping.box import Box

# Stored weights up to which a witness repeats what follows from model and profile, about 40 MB.
_WHOLE_UP_TO = 1_000_000
#: What readers get of every layer, whichever way it is stored.
PARTS = ("nominal", "lo", "hi", "deviation")
_PACKED = ("code", "high", "start", "table", "place", "other")
# Places of a deviation: at 0, at the lower or upper end of its interval, or listed.
_ZERO, _LOW, _HIGH, _OTHER = range(4)
_SHIFTS = np.array([0, 2, 4, 6], dtype=np.uint8)
_CODES = 2**16
# Element types of all packed parts but the first.
_KINDS = ["uint8", "int64", "float32", "uint8", "float32"]
# Bytes a weight of all four parts, and of what makes those of one layer.
_WHOLE_BYTES = 32

Tensors = dict[str, Shaped[np.ndarray, "..."]]


def is_whole(num_weights: int) -> bool:
    """Tell whether the witness of a network of so many stored weights repeats what follows."""
    return num_weights <= _WHOLE_UP_TO


def write_pattern(
    path: Path, box: Box, deviations: Mapping[str, Shaped[np.ndarray, "..."]]
) -> None:
    """Write a pattern, its box and the nominal weights, whole or not at all.

    Raises:
        SelfCheckError: The pattern leaves the box.
    """
    box.check(deviations, origin=path.name)
    tensors: Tensors = {}
    for name in box.names:
        arrays = (box.nominal[name], box.lo[name], box.hi[name], deviations[name])
        whole = [np.ascontiguousarray(array, dtype=np.float32) for array in arrays]
        packed = None if is_whole(box.num_weights) else _packed(*whole)
        parts = dict(zip(PARTS, whole, strict=True)) if packed is None else packed
        tensors.update({f"{name}.{part}": array for part, array in parts.items()})
    write_whole(path, save(tensors))


def read_pattern(path: Path, *, what: str) -> Tensors:
    """Read nominal weights, box and deviations of every layer, as ``NAME.nominal`` and so on.

    Args:
        path: The file.
        what: What messages call it, e.g. ``"witness"``.

    Raises:
        InputRefusedError: It is missing, no safetensors file, or its tables are damaged.
    """
    stored = read_tensors(path, what=what)
    packed = [key.removesuffix(".code") for key in stored if key.endswith(".code")]
    needed = _WHOLE_BYTES * sum(stored[f"{name}.code"].size for name in packed)
    if needed > available_memory():
        raise InputRefusedError(
            f"{what} must fit into memory, got {needed} bytes of weights ({printable(path)}); use a"
            " larger machine"
        )
    for name in packed:
        parts = [stored.pop(f"{name}.{part}", None) for part in _PACKED]
        problem = next(_problems(parts), "")
        if problem:
            raise InputRefusedError(
                f"{what} must hold sound tables, got {problem} of '{printable(name)[:100]}'"
                f" ({printable(path)}); take the file from where it was made"
            )
        whole = _unpacked(*(part for part in parts if part is not None))
        stored.update({f"{name}.{part}": array for part, array in whole.items()})
    return stored


def _packed(
    nominal: Float32[np.ndarray, "*weight"],
    lo: Float32[np.ndarray, "*weight"],
    hi: Float32[np.ndarray, "*weight"],
    deviation: Float32[np.ndarray, "*weight"],
) -> Tensors | None:
    """Return a layer by its table; None where no small table gives it bit by bit."""
    for axis in (None, *range(nominal.ndim)):
        found = _coded(nominal, axis)
        if found is None:
            continue
        code, start, levels = found
        rows = start + code
        table = np.zeros((len(levels), 3), dtype=np.float32)
        for column, array in enumerate((nominal, lo, hi)):
            table[rows, column] = array
        if all(
            np.array_equal(table[rows, column].view(np.uint32), array.view(np.uint32))
            for column, array in enumerate((nominal, lo, hi))
        ):
            place = np.full(nominal.shape, _OTHER, dtype=np.uint8)
            for value, array in ((_HIGH, hi), (_LOW, lo), (_ZERO, np.zeros_like(lo))):
                place[deviation.view(np.uint32) == array.view(np.uint32)] = value
            other = deviation[place == _OTHER]
            low, high = code, np.zeros(0, dtype=np.uint8)
            if len(levels) > 2**8 and int(code.max()) < 2**10:
                low, high = (code & 255).astype(np.uint8), _in_bits((code >> 8).astype(np.uint8))
            parts = (low, high, start, table, _in_bits(place), other)
            return dict(zip(_PACKED, parts, strict=True))
    return None


def _coded(
    nominal: Float32[np.ndarray, "*weight"], axis: int | None
) -> (
    tuple[Shaped[np.ndarray, "*weight"], Int64[np.ndarray, "..."], Float32[np.ndarray, "levels"]]
    | None
):
    """Number the nominal weights by their values, in the tensor or in each part along an axis.

    Returns:
        Number of every weight in its part, where each part begins in the table (as many axes as the
        tensor), and the values; None where numbers would not be small.
    """
    parts = [nominal] if axis is None else list(np.moveaxis(nominal, axis, 0))
    values = [np.unique(part) for part in parts]
    most = max(map(len, values), default=0)
    # A row of the table is 12 bytes; with more than this, a layer as it is takes hardly more.
    if most > _CODES or 2 * sum(map(len, values)) > nominal.size:
        return None
    kind = np.uint8 if most <= 2**8 else np.uint16
    codes = [np.searchsorted(v, part).astype(kind) for v, part in zip(values, parts, strict=True)]
    begins = np.cumsum([0, *map(len, values[:-1])], dtype=np.int64)
    shape = [1] * nominal.ndim
    if axis is None:
        return codes[0].reshape(nominal.shape), begins.reshape(shape), values[0]
    shape[axis] = -1
    code = np.ascontiguousarray(np.moveaxis(np.stack(codes), 0, axis))
    return code, begins.reshape(shape), np.concatenate(values)


def _in_bits(place: UInt8[np.ndarray, "*weight"]) -> UInt8[np.ndarray, "bytes"]:
    """Return numbers below four, four to a byte, the first in its lowest bits."""
    flat = np.zeros(-(-place.size // 4) * 4, dtype=np.uint8)
    flat[: place.size] = place.ravel()
    return np.asarray(np.bitwise_or.reduce(flat.reshape(-1, 4) << _SHIFTS, axis=1))


def _unpacked(
    code: Shaped[np.ndarray, "*weight"],
    high: UInt8[np.ndarray, "_bytes"],
    start: Int64[np.ndarray, "..."],
    table: Float32[np.ndarray, "rows 3"],
    place: UInt8[np.ndarray, "_bytes"],
    other: Float32[np.ndarray, "listed"],
) -> Tensors:
    """Return a layer with whose parts `_problems` found nothing wrong."""
    rows = start + _numbers(code, high)
    nominal, lo, hi = (column[rows] for column in np.ascontiguousarray(table.T))
    where = _places(place, code.size).reshape(code.shape)
    deviation = np.where(where == _LOW, lo, np.where(where == _HIGH, hi, np.float32(0)))
    deviation[where == _OTHER] = other
    return dict(zip(PARTS, (nominal, lo, hi, deviation), strict=True))


def _numbers(
    code: Shaped[np.ndarray, "*weight"], high: UInt8[np.ndarray, "bytes"]
) -> Shaped[np.ndarray, "*weight"]:
    """Return the numbers of weights; those above 255 have two bits more, apart."""
    if not high.size:
        return code
    return np.asarray(code + 256 * _places(high, code.size).reshape(code.shape).astype(np.int64))


def _places(place: UInt8[np.ndarray, "bytes"], count: int) -> UInt8[np.ndarray, "weights"]:
    numbers: UInt8[np.ndarray, "all"] = ((place[:, None] >> _SHIFTS) & 3).ravel()
    return np.asarray(numbers[:count])


def _problems(parts: Sequence[Shaped[np.ndarray, "..."] | None]) -> Iterator[str]:
    """Yield what is wrong with the parts of a layer that somebody else wrote, at most one thing.

    Every array is checked before it is an index: they are not trusted.
    """
    given = [part for part in parts if part is not None]
    if len(given) < len(parts):
        yield "a missing part"
        return
    code, high, start, table, place, other = given
    kinds = [str(array.dtype) for array in (code, high, start, table, place, other)]
    if kinds[0] not in ("uint8", "uint16") or kinds[1:] != _KINDS:
        yield f"parts of types {', '.join(kinds)}"
        return
    broadcasts = start.ndim == code.ndim and all(
        length in (1, whole) for length, whole in zip(start.shape, code.shape, strict=True)
    )
    if not broadcasts or table.shape[1:] != (3,) or other.ndim != 1:
        yield "parts of shapes that do not fit"
        return
    if place.shape != (-(-code.size // 4),) or high.shape not in ((0,), place.shape):
        yield f"places of {place.size} bytes, and high bits of {high.size}"
        return
    if code.size and not 0 <= int(start.min()) <= int(start.max()) < len(table):
        yield "a part outside the table"
        return
    if code.size and int((start + _numbers(code, high)).max()) >= len(table):
        yield "a number outside the table"
        return
    listed = int((_places(place, code.size) == _OTHER).sum())
    if listed != len(other):
        yield f"{len(other)} deviations where {listed} are listed"
