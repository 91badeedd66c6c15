"""Small pictures of inputs, as PNG without compression.

The same bytes by any library of any version.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float64, Real, UInt8

#: Most pixels along an edge, by channels; larger pictures are averaged down.
LARGEST_EDGE = {1: 32, 3: 24}
_LEAST_EDGE = 4
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}


def is_image(shape: tuple[int, ...]) -> bool:
    """Tell whether an input of this shape, without its sample axis, can be seen.

    Rows and columns, with one or three channels first or last.
    """
    return _layout(shape) is not None


def picture(values: Real[np.ndarray, "..."]) -> UInt8[np.ndarray, "rows columns channels"]:
    """Return an input as a small picture, uint8 [rows, columns, channels].

    Its least value black, its largest white.

    Args:
        values: One input of a shape that `is_image` takes.
    """
    layout = _layout(values.shape)
    assert layout is not None
    pixels = np.nan_to_num(np.asarray(values, dtype=np.float64))
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    pixels = np.moveaxis(pixels, 0, -1) if layout == "first" else pixels
    edge = LARGEST_EDGE[pixels.shape[2]]
    small = _averaged(_averaged(pixels, 0, edge), 1, edge)
    low, high = float(small.min()), float(small.max())
    return np.asarray(np.rint(255 * (small - low) / (high - low or 1.0)), dtype=np.uint8)


def png_base64(pixels: UInt8[np.ndarray, "rows columns channels"]) -> str:
    """Return a picture as PNG in base64.

    Args:
        pixels: uint8 [rows, columns, channels].
    """
    rows, columns, channels = pixels.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    content = b"".join(
        _chunk(kind, part)
        for kind, part in ((b"IHDR", header), (b"IDAT", _stored(lines)), (b"IEND", b""))
    )
    return base64.b64encode(_SIGNATURE + content).decode("ascii")


def _layout(shape: tuple[int, ...]) -> str | None:
    """Return where the channels are, first or last; None: it is no picture."""
    for where, edges, channels in (
        ("first", shape[-2:], shape[:-2]),
        ("last", shape[:-1], shape[-1:]),
    ):
        if len(edges) == 2 and min(edges) >= _LEAST_EDGE and (channels in ((), (1,), (3,))):
            return where
    return None


def _averaged(
    pixels: Float64[np.ndarray, "_rows _columns channels"], axis: int, most: int
) -> Float64[np.ndarray, "_rows _columns channels"]:
    size = pixels.shape[axis]
    if size <= most:
        return pixels
    edges = np.linspace(0, size, most + 1).astype(np.intp)
    return np.asarray(
        np.add.reduceat(pixels, edges[:-1], axis=axis)
        / np.diff(edges).reshape([-1 if axis == at else 1 for at in range(3)])
    )


def _stored(content: bytes) -> bytes:
    """Return a zlib stream of one block that is stored as it is.

    Pictures are far smaller than a block can be.
    """
    size = len(content)
    return (
        b"\x78\x01\x01"
        + struct.pack("<HH", size, size ^ 0xFFFF)
        + content
        + struct.pack(">I", zlib.adler32(content))
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
