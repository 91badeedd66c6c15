"""Lower the operators of onnxruntime that hold block-quantised weights.

The weights have 2, 4 or 8 bits, packed into bytes, with one scale per block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cimrobust.onnx_io.lowering.lowering_errors import RefusedError, StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float32, Int64, Shaped, UInt8
    from cimrobust.onnx_io.lowering.job import Job

_BLOCKED_SINCE = 21
_PER_AXIS_SINCE = 13
_INT8_ACTIVATIONS = 4
_ONE_TABLE = 2**26

# The sixteen numbers of each 4-bit code of bitsandbytes, with zero first or in the middle; T.
# Dettmers et al., QLoRA, 2023 (arXiv 2305.14314), appendix E, for NF4.
_FP4 = (0.0, 0.0052083334, 0.6666667, 1.0, 0.33333334, 0.5, 0.16666667, 0.25)
_CODES = (
    np.array([*_FP4, 0.0, *(-value for value in _FP4[1:])], np.float32),
    np.array(
        [
            *(
                -1.0,
                -0.6961928009986877,
                -0.5250730514526367,
                -0.39491748809814453,
                -0.28444138169288635,
                -0.18477343022823334,
            ),
            *(
                -0.09105003625154495,
                0.0,
                0.07958029955625534,
                0.16093020141124725,
                0.24611230194568634,
                0.33791524171829224,
            ),
            *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
        ],
        np.float32,
    ),
)


def unpacked(
    packed: UInt8[np.ndarray, "*rows bytes"], bits: int
) -> UInt8[np.ndarray, "*rows columns"]:
    """Return integers packed along the last axis, the first in the lowest bits of a byte."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return np.asarray(parts.reshape(*packed.shape[:-1], -1), np.uint8)


def _constant(job: Job, index: int, what: str) -> Shaped[np.ndarray, "..."]:
    name = job.node.input[index] if index < len(job.node.input) else ""
    value = job.value(name)
    if value is None:
        raise StaysError(f"its {what} '{name}' are no initializer")
    return value


def _zero_points(
    job: Job, index: int, bits: int, shape: tuple[int, int]
) -> UInt8[np.ndarray, "rows blocks"] | Float32[np.ndarray, "rows blocks"]:
    """Return zero points [rows, blocks].

    Uint8, or floats where the file has floats that are not whole.
    """
    if not job.input(index):
        return np.full(shape, 2 ** (bits - 1), np.uint8)
    value = _constant(job, index, "zero points")
    if value.dtype == np.uint8:
        packed = value.reshape(shape[0], -1)
        return unpacked(packed, bits)[:, : shape[1]]
    floats = np.asarray(value.astype(np.float32)).reshape(shape)
    whole = np.rint(floats)
    return (
        whole.astype(np.uint8)
        if (whole == floats).all() and (whole >= 0).all() and (whole <= 255).all()
        else floats
    )


@lowers("com.microsoft::MatMulNBits")
def matmul_n_bits(job: Job) -> None:
    """DequantizeLinear, Transpose, MatMul, Add."""
    bits, block = job.integer("bits", 4), job.integer("block_size", 0)
    outputs, inputs = job.integer("N", 0), job.integer("K", 0)
    packed, scales = _constant(job, 1, "weights"), _constant(job, 2, "scales")
    if job.integer("weight_prepacked", 0):
        raise RefusedError(
            "its weights are packed for one kind of graphics processor; save the model for the CPU"
        )
    if bits not in (2, 4, 8) or block <= 0 or not packed.size or outputs <= 0 or inputs <= 0:
        raise StaysError(f"it has {bits} bits in blocks of {block}, {packed.size} bytes")
    blocks = -(-inputs // block)
    if packed.size != outputs * blocks * block * bits // 8 or scales.size != outputs * blocks:
        raise StaysError(
            f"its weights and scales do not fit {outputs} x {inputs} in blocks of {block}"
        )
    levels = unpacked(packed.reshape(outputs, -1), bits)[:, :inputs]
    scales = scales.astype(np.float32).reshape(outputs, blocks)
    zeros = _zero_points(job, 3, bits, (outputs, blocks))
    if job.integer("accuracy_level", 0) == _INT8_ACTIVATIONS:
        job.stored.instead[
            "MatMulNBits with accuracy_level = 4 lets onnxruntime round activations to 8 bits; the"
            " exact product is read"
        ] = None
    weight = _dequantised(job, levels, scales, zeros, _groups(job, inputs, block), bits=bits)
    product = job.add("MatMul", job.input(0), job.add("Transpose", weight, perm=[1, 0]))
    job.finish(job.add("Add", product, job.input(5)) if job.input(5) else product)


def _groups(job: Job, inputs: int, block: int) -> Int64[np.ndarray, "inputs"]:
    """Return the block that every input belongs to."""
    if not job.input(4):
        return np.arange(inputs) // block
    if job.input(3):
        raise StaysError(
            "it has group indices and zero points, for which onnxruntime and its description differ"
        )
    groups = np.asarray(_constant(job, 4, "group indices")[:inputs], np.int64)
    if groups.shape != (inputs,) or groups.min() < 0 or groups.max() >= -(-inputs // block):
        raise StaysError("its group indices do not fit its inputs and blocks")
    return groups


def _dequantised(
    job: Job,
    levels: UInt8[np.ndarray, "outputs inputs"],
    scales: Float32[np.ndarray, "outputs blocks"],
    zeros: UInt8[np.ndarray, "outputs blocks"] | Float32[np.ndarray, "outputs blocks"],
    groups: Int64[np.ndarray, "inputs"],
    *,
    bits: int,
) -> str:
    """Return the weight [outputs, inputs] as the nodes that make it from levels.

    Where no such nodes exist, as floats.
    """
    source, (outputs, inputs) = job.input(1), levels.shape
    note = f"the {bits}-bit weights '{source}' are unpacked to {{}}, {outputs} x {inputs}"
    sizes = np.bincount(groups, minlength=scales.shape[1])
    order = np.argsort(groups, kind="stable")
    is_sorted = bool((order == np.arange(inputs)).all())
    block = int(sizes[0])
    even = bool((sizes[:-1] == block).all() and 0 < sizes[-1] <= block)
    if zeros.dtype != np.uint8 or not even or job.opset < _PER_AXIS_SINCE:
        values = (levels - zeros[:, groups].astype(np.float32)) * scales[:, groups]
        return job.weight(source, values, "values", note=note)
    name = job.weight(source, levels, "levels", bits=bits, note=note)
    moved = name if is_sorted else job.add("Gather", name, job.constant(order, "order"), axis=1)
    made = _by_blocks(job, moved, (outputs, inputs), block, scales, zeros)
    return (
        made
        if is_sorted
        else job.add(
            "Gather", made, job.constant(np.argsort(order, kind="stable"), "order"), axis=1
        )
    )


def _by_blocks(
    job: Job,
    levels: str,
    shape: tuple[int, int],
    block: int,
    scales: Float32[np.ndarray, "outputs blocks"],
    zeros: UInt8[np.ndarray, "outputs blocks"],
) -> str:
    """Dequantise levels [rows, columns] with one scale and zero point per row and column block."""
    rows, columns = shape
    if job.opset >= _BLOCKED_SINCE and scales.shape[1] > 1:
        inputs = (job.constant(scales, "scales"), job.constant(zeros, "zeros"))
        return job.add("DequantizeLinear", levels, *inputs, axis=1, block_size=block)
    whole = columns // block * block
    if whole == columns or not whole:
        return _one_kind(job, levels, shape, scales, zeros)
    first, rest = job.many("Split", levels, job.axes(whole, columns - whole), outputs=2, axis=1)
    parts = (
        _one_kind(job, first, (rows, whole), scales[:, :-1], zeros[:, :-1]),
        _one_kind(job, rest, (rows, columns - whole), scales[:, -1:], zeros[:, -1:]),
    )
    return job.add("Concat", *parts, axis=1)


def _one_kind(
    job: Job,
    levels: str,
    shape: tuple[int, int],
    scales: Float32[np.ndarray, "outputs blocks"],
    zeros: UInt8[np.ndarray, "outputs blocks"],
) -> str:
    """As `_by_blocks`, with blocks of one size: each is a row of its own for the while."""
    inputs = (job.constant(scales.reshape(-1), "scales"), job.constant(zeros.reshape(-1), "zeros"))
    if scales.shape[1] == 1:
        return job.add("DequantizeLinear", levels, *inputs, axis=0)
    flat = job.add("Reshape", levels, job.axes(scales.size, -1))
    return job.add("Reshape", job.add("DequantizeLinear", flat, *inputs, axis=0), job.axes(*shape))


@lowers("com.microsoft::GatherBlockQuantized", widens=False)
def gather_block_quantised(job: Job) -> None:
    """Gather from the dequantised table, which stays digital."""
    data, scales = _constant(job, 0, "table"), _constant(job, 2, "scales")
    bits, block = job.integer("bits", 4), job.integer("block_size", 128)
    if data.dtype == np.uint8:
        if bits not in (2, 4, 8):
            raise StaysError(f"it has {bits} bits")
        levels, zero = unpacked(data, bits), 2 ** (bits - 1)
    else:
        levels, zero = data, 0
    axis = job.integer("quantize_axis", 1) % levels.ndim
    if "float" in levels.dtype.name or levels.size > _ONE_TABLE or not block:
        raise StaysError(f"it has {levels.size} elements of {levels.dtype} in blocks of {block}")
    zeros = np.full(scales.shape, zero, np.float32)
    if job.input(3):
        given = _constant(job, 3, "zero points")
        zeros = np.asarray(unpacked(given, bits) if given.dtype == np.uint8 else given).astype(
            np.float32
        )
        zeros = zeros[tuple(slice(0, size) for size in scales.shape)]
    spread = (np.repeat(part.astype(np.float32), block, axis=axis) for part in (scales, zeros))
    factor, offset = (part[tuple(slice(0, size) for size in levels.shape)] for part in spread)
    values = (levels.astype(np.float32) - offset) * factor
    table = job.weight(job.input(0), values.astype(scales.dtype), "values")
    job.finish(job.add("Gather", table, job.input(1), axis=job.integer("gather_axis", 0)))


@lowers("com.microsoft::MatMulBnb4")
def matmul_bnb4(job: Job) -> None:
    """MatMul with the weights that the codes stand for, which are no equally spaced levels."""
    codes, largest = _constant(job, 1, "weights"), _constant(job, 2, "scales")
    outputs, inputs, block, kind = (
        job.integer(name, 0) for name in ("N", "K", "block_size", "quant_type")
    )
    if (
        block <= 0
        or kind not in (0, 1)
        or job.integer("training_mode", 0)
        or 2 * codes.size < outputs * inputs
    ):
        raise StaysError(f"it is of kind {kind} in blocks of {block}")
    halves = np.stack([codes.reshape(-1) >> 4, codes.reshape(-1) & 15], axis=-1).reshape(-1)[
        : outputs * inputs
    ]
    values = (
        _CODES[kind][halves]
        * np.repeat(largest.reshape(-1).astype(np.float32), block)[: halves.size]
    )
    matrix = values.reshape(outputs, inputs)
    note = f"the 4-bit codes '{job.input(1)}' are read as the numbers {{}}, {outputs} x {inputs}"
    weight = job.weight(job.input(1), matrix, "values", note=note)
    transposed = (
        weight if not job.integer("transB", 1) else job.add("Transpose", weight, perm=[1, 0])
    )
    job.finish(job.add("MatMul", job.input(0), transposed))
