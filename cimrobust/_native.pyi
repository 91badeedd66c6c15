from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TABLE_HALF_SIZE: int
TABLE_SEGMENT_BITS: int

def simd_levels() -> list[str]: ...
def quantise(
    values: NDArray[np.float32],
    group: NDArray[np.int32],
    scale: NDArray[np.float64],
    max_level: int,
    nominal: NDArray[np.float32],
) -> None: ...
def emit_box(
    nominal: NDArray[np.float32],
    group: NDArray[np.int32],
    group_lo: NDArray[np.float32],
    group_hi: NDArray[np.float32],
    mirrors_negative: bool,
    lo: NDArray[np.float32],
    hi: NDArray[np.float32],
) -> None: ...
def program_weights(
    nominal: NDArray[np.float32],
    group: NDArray[np.int32],
    scale: NDArray[np.float32],
    lo: NDArray[np.float32],
    hi: NDArray[np.float32],
    knots: NDArray[np.float32],
    slopes: NDArray[np.float32],
    *,
    key: int,
    trial: int,
    num_slices: int,
    bits_per_device: int,
    is_pair: bool,
    mirrors_negative: bool,
    clamps: bool,
    out: NDArray[np.float32],
    simd: str = "best",
) -> None: ...
def draw_deviations(
    num_weights: int,
    num_devices: int,
    knots: NDArray[np.float32],
    slopes: NDArray[np.float32],
    *,
    key: int,
    trial: int,
) -> NDArray[np.float32]: ...

class CrossbarArray:
    def __init__(
        self,
        planes: Sequence[NDArray[np.float32]],
        variances: Sequence[NDArray[np.float32]],
        *,
        groups: int,
        rows: int,
        cols: int,
        tile_rows: int,
        strides: tuple[int, int, int],
        columns_on: str,
        simd: str = "best",
    ) -> None: ...
    def conv(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.float32],
        *,
        batch: int,
        channels: int,
        in_size: tuple[int, int, int],
        out_size: tuple[int, int, int],
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int],
        dilation: tuple[int, int, int],
        pad: tuple[int, int, int],
        gain: NDArray[np.float32],
        inverse_step: NDArray[np.float32],
        column_scale: NDArray[np.float32],
        bias: NDArray[np.float32],
        inverse_scale: float | None,
        zero_point: float,
        levels: tuple[float, float],
        num_passes: int,
        bits_per_pass: int,
        codes: tuple[float, float],
        input_sum_gain: float,
        knots: NDArray[np.float32],
        slopes: NDArray[np.float32],
        noise_key: int,
        first_vector: int,
        threads: int = 1,
    ) -> None: ...
    def vectors(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.float32],
        *,
        num_vectors: int,
        gain: NDArray[np.float32],
        inverse_step: NDArray[np.float32],
        column_scale: NDArray[np.float32],
        bias: NDArray[np.float32],
        inverse_scale: float | None,
        zero_point: float,
        levels: tuple[float, float],
        num_passes: int,
        bits_per_pass: int,
        codes: tuple[float, float],
        input_sum_gain: float,
        knots: NDArray[np.float32],
        slopes: NDArray[np.float32],
        noise_key: int,
        first_vector: int,
        threads: int = 1,
    ) -> None: ...

class LevelCoding:
    def __init__(
        self,
        *,
        num_slices: int,
        bits_per_device: int,
        is_pair: bool,
        mirrors_negative: bool,
        max_level: int,
        level_offset: int,
        has_remainder: bool,
    ) -> None: ...

class Faults:
    def __init__(self, *, key: int, low_below: int, high_above: int, high_level: float) -> None: ...

def emit_level_box(
    nominal: NDArray[np.float32],
    group: NDArray[np.int32],
    scale: NDArray[np.float64],
    level_lo: NDArray[np.float64],
    level_hi: NDArray[np.float64],
    lo: NDArray[np.float32],
    hi: NDArray[np.float32],
    *,
    coding: LevelCoding,
) -> None: ...
def emit_levels(
    nominal: NDArray[np.float32],
    group: NDArray[np.int32],
    scale: NDArray[np.float32],
    levels: NDArray[np.float32],
    *,
    coding: LevelCoding,
) -> None: ...
def program_levels(
    nominal: NDArray[np.float32],
    group: NDArray[np.int32],
    scale: NDArray[np.float32],
    lo: NDArray[np.float32],
    hi: NDArray[np.float32],
    knots: NDArray[np.float32],
    slopes: NDArray[np.float32],
    *,
    coding: LevelCoding,
    faults: Faults,
    key: int,
    trial: int,
    clamps: bool,
    out: NDArray[np.float32],
    devices: NDArray[np.float32],
    simd: str = "best",
) -> None: ...
