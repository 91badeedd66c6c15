"""Patterns in little space: two bits a weight, and the numbers of those inside their interval.

Most weights of a pattern that a search found lie at a bound of the box or at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt32

if TYPE_CHECKING:
    from cimrobust.mapping.box import Box, Pattern

_ZERO, _LO, _HI, _OTHER = range(4)
_PLACES = np.array([1, 4, 16, 64], dtype=np.uint8)


@dataclass(frozen=True)
class PackedPattern:
    """A pattern of one box.

    Attributes:
        names: Its initializers; others of the box are exact.
        codes: For every initializer where each weight lies: 0 at zero,
            1 and 2 at the lower and the upper bound, 3 elsewhere; four to a byte, uint8.
        others: Deviations of the weights that lie elsewhere, float32.
    """

    names: tuple[str, ...]
    codes: tuple[UInt8[np.ndarray, "_bytes"], ...]
    others: tuple[Float32[np.ndarray, "_inside"], ...]


def pack(box: Box, pattern: Mapping[str, Float32[np.ndarray, "..."]]) -> PackedPattern:
    """Return a pattern of a box in little space; `unpack` gives the same bits."""
    packed = [_packed(array, box.lo[name], box.hi[name]) for name, array in pattern.items()]
    return PackedPattern(
        tuple(pattern), tuple(codes for codes, _ in packed), tuple(others for _, others in packed)
    )


def unpack(box: Box, packed: PackedPattern) -> Pattern:
    """Return the pattern that `pack` was given.

    Raises:
        ValueError: It is of another box.
        SelfCheckError: A deviation leaves its interval.
    """
    pattern = unchecked(box, packed)
    exact = {
        name: np.zeros_like(array) for name, array in box.nominal.items() if name not in pattern
    }
    box.check({**exact, **pattern}, origin="kept pattern")
    return pattern


def unchecked(box: Box, packed: PackedPattern) -> Pattern:
    """Return the pattern that `pack` was given, in its box or not.

    Raises:
        ValueError: It is of another box.
    """
    names = packed.names
    if not len(packed.codes) == len(packed.others) == len(set(names)) or set(names) - set(
        box.names
    ):
        raise ValueError("pattern must have layers of the box, each once")
    return {
        name: _unpacked(codes, others, box.lo[name], box.hi[name])
        for name, codes, others in zip(names, packed.codes, packed.others, strict=True)
    }


def _packed(
    deviation: Float32[np.ndarray, "*weight"],
    lo: Float32[np.ndarray, "*weight"],
    hi: Float32[np.ndarray, "*weight"],
) -> tuple[UInt8[np.ndarray, "bytes"], Float32[np.ndarray, "inside"]]:
    bits = _bits(deviation)
    where = np.full(bits.size, _OTHER, dtype=np.uint8)
    # Bits, not values: -0 is a bound of some boxes.
    for code, value in ((_HI, _bits(hi)), (_LO, _bits(lo)), (_ZERO, np.uint32(0))):
        where[bits == value] = code
    filled = np.zeros(-(-bits.size // 4) * 4, dtype=np.uint8)
    filled[: bits.size] = where
    codes = (filled.reshape(-1, 4) * _PLACES).sum(axis=1, dtype=np.uint8)
    return codes, bits[where == _OTHER].view(np.float32)


def _unpacked(
    codes: UInt8[np.ndarray, "bytes"],
    others: Float32[np.ndarray, "inside"],
    lo: Float32[np.ndarray, "*weight"],
    hi: Float32[np.ndarray, "*weight"],
) -> Float32[np.ndarray, "*weight"]:
    if codes.dtype != np.uint8 or codes.shape != (-(-lo.size // 4),):
        raise ValueError(f"layer must have codes of {lo.size} weights, got {codes.shape}")
    where = ((codes[:, None] // _PLACES) % 4).reshape(-1)[: lo.size]
    if others.dtype != np.float32 or others.shape != (int((where == _OTHER).sum()),):
        raise ValueError("layer must have a number for every weight inside its interval")
    flat = np.zeros(lo.size, dtype=np.float32)
    for code, bound in ((_LO, lo), (_HI, hi)):
        here = where == code
        flat[here] = np.asarray(bound, dtype=np.float32).reshape(-1)[here]
    flat[where == _OTHER] = others
    return flat.reshape(lo.shape)


def _bits(array: Float[np.ndarray, "..."]) -> UInt32[np.ndarray, "weights"]:
    return np.ascontiguousarray(array, dtype=np.float32).reshape(-1).view(np.uint32)
