"""What the kernel's loops cost, as multiples of NumPy.

NumPy does the plain work of the same shape in the same run.

    python native/bench/bench_kernel.py

References: programming is held against NumPy's fastest generator (SFC64) drawing one float32 normal
a device and one pass that reads and writes the
weights; products against NumPy's float32 matrix product (OpenBLAS) of the same multiplications, a
convolution being that of its receptive fields, which
lie ready. One thread, processor time, medians of pairs taken in turn (plain C++: of 3). Ends with 1
where AVX2 or AVX-512 misses a goal.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cimrobust import _native

EMPTY = np.zeros(0, np.float32)
GENERATOR = np.random.default_rng(0)
# A standard normal table is not needed to time draws: they cost the same whatever it holds.
TABLE = np.linspace(-1, 1, 2 * _native.TABLE_HALF_SIZE, dtype=np.float32)

Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    goal: float  # for wide instruction sets
    ours: Callable[[str], Work]  # of an instruction set
    theirs: Work


def floats(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape, dtype=np.float32)


def programming(devices: int, *, by_level: bool) -> Case:
    """2 M weights of `devices` 2-bit devices."""
    size = 1 << 21
    nominal = np.rint(floats(size) * 40).clip(-255, 255).astype(np.float32)
    group, one, bound = np.zeros(size, np.int32), np.ones(1, np.float32), np.full(1, 8, np.float32)
    lo, hi, out = (
        np.full(size, -8, np.float32),
        np.full(size, 8, np.float32),
        np.empty(size, np.float32),
    )
    normals, copy, generator = (
        np.empty(size * devices, np.float32),
        np.empty(size, np.float32),
        np.random.Generator(np.random.SFC64(0)),
    )
    is_pair = devices > 4
    coding = _native.LevelCoding(
        num_slices=4,
        bits_per_device=2,
        is_pair=is_pair,
        mirrors_negative=not is_pair,
        max_level=255,
        level_offset=0,
        has_remainder=False,
    )
    faults = _native.Faults(key=2, low_below=0, high_above=0, high_level=3.0)

    def ours(simd: str) -> Work:
        if by_level:
            tables = np.tile(TABLE, 4)
            return lambda: _native.program_levels(
                nominal,
                group,
                one,
                lo,
                hi,
                tables,
                tables,
                coding=coding,
                faults=faults,
                key=1,
                trial=0,
                clamps=True,
                out=out,
                devices=EMPTY,
                simd=simd,
            )
        return lambda: _native.program_weights(
            nominal,
            group,
            one,
            -bound,
            bound,
            TABLE,
            TABLE,
            key=1,
            trial=0,
            num_slices=4,
            bits_per_device=2,
            is_pair=is_pair,
            mirrors_negative=not is_pair,
            clamps=True,
            out=out,
            simd=simd,
        )

    def theirs() -> None:
        generator.standard_normal(dtype=np.float32, out=normals)
        np.add(nominal, np.float32(0.1), out=copy)

    return Case(
        f"programming, {devices} devices a weight{', by level' if by_level else ''}",
        2.0,
        ours,
        theirs,
    )


def codings(
    tiles: int, columns: int, *, bits: int | None, passes: int, noise: bool
) -> dict[str, object]:
    """Arguments that both products have.

    No converters (bits None) or `bits` at both ends, inputs in `passes` digits.
    """
    codes = np.ones(tiles * columns, np.float32)
    top = float(2 ** ((bits or 8) - 1) - 1)
    table = TABLE if noise else EMPTY
    return {
        "gain": codes,
        "inverse_step": EMPTY if bits is None else codes,
        "column_scale": np.ones(columns, np.float32),
        "bias": np.zeros(columns, np.float32),
        "inverse_scale": None if bits is None else 40.0,
        "zero_point": 0.0,
        "levels": (-top, top),
        "num_passes": passes,
        "bits_per_pass": 1 if passes > 1 else 0,
        "codes": (-top, top),
        "input_sum_gain": 0.0,
        "knots": table,
        "slopes": table,
        "noise_key": 1,
        "first_vector": 0,
    }


def tiles_of(rows: int, tile_rows: int) -> int:
    return -(-rows // tile_rows)


def array_of(
    cells: np.ndarray, tile_rows: int, columns_on: str, simd: str, *, noise: bool
) -> _native.CrossbarArray:
    """Cells [columns, rows] as an array of one plane."""
    cols, rows = cells.shape
    plane = cells.reshape(-1)
    return _native.CrossbarArray(
        [plane],
        [plane**2] if noise else [],
        groups=1,
        rows=rows,
        cols=cols,
        tile_rows=tile_rows,
        strides=(0, 1, rows),
        columns_on=columns_on,
        simd=simd,
    )


def vectors(
    what: str,
    count: int,
    rows: int,
    cols: int,
    *,
    goal: float,
    tile_rows: int,
    bits: int | None,
    passes: int = 1,
    noise: bool = False,
) -> Case:
    """`count` vectors through a layer of rows x cols."""
    x, cells, product = floats(count, rows), floats(cols, rows), np.empty((count, cols), np.float32)
    flat, y, transposed = (
        x.reshape(-1),
        np.empty(count * cols, np.float32),
        np.ascontiguousarray(cells.T),
    )
    arguments = codings(tiles_of(rows, tile_rows), cols, bits=bits, passes=passes, noise=noise)

    def ours(simd: str) -> Work:
        array = array_of(cells, tile_rows, "lanes", simd, noise=noise)
        return lambda: array.vectors(flat, y, num_vectors=count, **arguments)

    return Case(
        f"{what}, {count} vectors, {rows} x {cols}",
        goal,
        ours,
        lambda: np.matmul(x, transposed, out=product),
    )


def conv(
    batch: int,
    channels: int,
    cols: int,
    size: int,
    kernel: int,
    *,
    goal: float,
    bits: int | None,
    passes: int = 1,
    noise: bool = False,
) -> Case:
    """A convolution without padding."""
    out, rows = size - kernel + 1, channels * kernel * kernel
    x, cells = floats(batch * channels * size * size), floats(cols, rows)
    fields, product = (
        floats(rows, batch * out * out),
        np.empty((cols, batch * out * out), np.float32),
    )
    y = np.empty(product.size, np.float32)
    arguments = codings(tiles_of(rows, 128), cols, bits=bits, passes=passes, noise=noise)

    def ours(simd: str) -> Work:
        array = array_of(cells, 128, "rows", simd, noise=noise)
        return lambda: array.conv(
            x,
            y,
            batch=batch,
            channels=channels,
            in_size=(1, size, size),
            out_size=(1, out, out),
            kernel=(1, kernel, kernel),
            stride=(1, 1, 1),
            dilation=(1, 1, 1),
            pad=(0, 0, 0),
            **arguments,
        )

    end = (
        ("no converters" if bits is None else "8-bit converters")
        + (f", {passes} passes" if passes > 1 else "")
        + (", read noise" if noise else "")
    )
    return Case(
        f"convolution {channels} to {cols} @ {kernel}x{kernel}, {batch} images of {size} x {size},"
        f" {end}",
        goal,
        ours,
        lambda: np.matmul(cells, fields, out=product),
    )


def cases() -> list[Case]:
    return [
        programming(4, by_level=False),
        programming(8, by_level=False),
        programming(4, by_level=True),
        vectors(
            "block multiply, one tile, no converters",
            256,
            1024,
            1024,
            goal=1.67,
            tile_rows=1024,
            bits=None,
        ),
        vectors(
            "block multiply, 128-row tiles, 8-bit converters",
            256,
            1024,
            1024,
            goal=1.67,
            tile_rows=128,
            bits=8,
        ),
        vectors("vectors, 8-bit converters", 256, 400, 120, goal=3, tile_rows=128, bits=8),
        vectors(
            "vectors, 8-bit converters, 7 passes",
            256,
            400,
            120,
            goal=21,
            tile_rows=128,
            bits=8,
            passes=7,
        ),
        vectors(
            "vectors, 8-bit converters, read noise",
            256,
            400,
            120,
            goal=20,
            tile_rows=128,
            bits=8,
            noise=True,
        ),
        conv(256, 1, 6, 32, 5, goal=1.67, bits=8),
        conv(8, 64, 64, 34, 3, goal=1.67, bits=None),
        conv(8, 64, 64, 34, 3, goal=1.67, bits=8),
        conv(8, 64, 64, 34, 3, goal=11.7, bits=8, passes=7),
        conv(8, 64, 64, 34, 3, goal=12, bits=8, noise=True),
    ]


def seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ratio(case: Case, simd: str, repeats: int) -> float:
    """Return the median of ours / theirs over pairs.

    Short work is repeated until it takes long enough for the clock.
    """
    ours = case.ours(simd)
    ours()
    case.theirs()
    loops = max(1, round(0.02 / max(seconds(case.theirs), 1e-5)))
    ratios = []
    for _ in range(repeats):
        theirs = sum(seconds(case.theirs) for _ in range(loops)) / loops
        ratios.append(seconds(ours) / theirs)
    return statistics.median(ratios)


def main() -> int:
    """Print the table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    levels = _native.simd_levels()
    met = True
    print(f"| work | goal | {' | '.join(levels)} |\n|---|---|{'---|' * len(levels)}")
    for case in cases():
        ratios = [
            ratio(case, simd, min(repeats, 3) if simd == "scalar" else repeats) for simd in levels
        ]
        met &= all(
            value <= case.goal
            for simd, value in zip(levels, ratios, strict=True)
            if simd != "scalar"
        )
        print(
            f"| {case.name} | {case.goal:g} | {' | '.join(f'{value:.2f}' for value in ratios)} |",
            flush=True,
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
