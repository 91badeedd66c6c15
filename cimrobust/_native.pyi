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
