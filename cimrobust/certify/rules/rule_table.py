"""Which rule bounds which operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cimrobust.certify.rules import (
    affine,
    convolution,
    curves,
    largest,
    layer_norm,
    log_softmax,
    max_pool,
    piecewise,
    product,
    quantise,
    resampling,
    smooth,
    softmax,
)
from cimrobust.certify.rules.rule import Rule
from cimrobust.twin.ops.converter_registry import Kernel, Node

Maker = Callable[[Node, Kernel], Rule]

#: Operators that only move elements.
MOVES = (
    "Compress",
    "Concat",
    "DepthToSpace",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Where",
)

RULES: Mapping[str, Maker] = {
    **dict.fromkeys(MOVES, affine.move),
    **dict.fromkeys(
        ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"), affine.average
    ),
    **dict.fromkeys(("Mul", "Div", "Neg"), affine.scale),
    **dict.fromkeys(smooth.SHAPES, smooth.smooth),
    **dict.fromkeys(("Resize", "Upsample"), resampling.resample),
    **dict.fromkeys(("GlobalMaxPool", "ReduceMax", "ReduceMin"), largest.largest),
    "Abs": piecewise.absolute,
    "Add": affine.add,
    "BatchNormalization": affine.normalise,
    "Cast": affine.widen,
    "Clip": piecewise.Clip,
    "Conv": convolution.conv,
    "CumSum": affine.running_sum,
    "DequantizeLinear": quantise.dequantise,
    "Exp": curves.exponential,
    "Gemm": product.gemm,
    "HardSigmoid": piecewise.hard_sigmoid,
    "LayerNormalization": layer_norm.layer_norm,
    "LeakyRelu": piecewise.leaky_relu,
    "Log": curves.logarithm,
    "LogSoftmax": log_softmax.log_softmax,
    "MatMul": product.matmul,
    "MaxPool": max_pool.max_pool,
    "NeighbourSum": affine.beside,
    "PRelu": piecewise.PRelu,
    "RMSNormalization": layer_norm.rms_norm,
    "Reciprocal": curves.reciprocal,
    "Relu": piecewise.relu,
    "Softmax": softmax.softmax,
    "Sqrt": curves.square_root,
    "Sub": affine.subtract,
}

#: Operators that look at the shape of a tensor alone.
SHAPE_OPS = frozenset({"Shape", "Size"})
