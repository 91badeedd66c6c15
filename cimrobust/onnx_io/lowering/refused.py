"""Operators that cannot be handled, each with the reason."""

from __future__ import annotations

from cimrobust.onnx_io.lowering.lowering_registry import refuses

#: Written by onnxruntime at the level that fits a network to one processor: weights are cut into
#: blocks of the width of its registers.
_BLOCKED = (
    "AveragePool",
    "Conv",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
    "ReorderInput",
    "ReorderOutput",
    "Upsample",
)

_INTERNAL = (
    *(
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "DepthToSpace",
        "GlobalAveragePool",
        "GlobalLpPool",
        "GlobalMaxPool",
        "GridSample",
    ),
    *(
        "InstanceNormalization",
        "LRN",
        "LpPool",
        "MaxPool",
        "MaxUnpool",
        "QLinearAveragePool",
        "QLinearConv",
        "QLinearConvTranspose",
        "Resize",
        "SpaceToDepth",
    ),
)

#: Of onnxruntime's own; it has no implementation of them for the CPU, so that no numbers exist to
#: compare with.
_OTHER_PROCESSORS = (
    *(
        "BiasAdd",
        "BiasDropout",
        "BiasSoftmax",
        "BiasSplitGelu",
        "BitmaskBiasDropout",
        "BitmaskDropout",
        "ComplexMul",
        "ComplexMulConj",
    ),
    *(
        "DecoderAttention",
        "DecoderMaskedSelfAttention",
        "FusedMatMulActivation",
        "GatedRelativePositionBias",
        "GemmFastGelu",
        "GemmFloat8",
    ),
    *(
        "GemmaRotaryEmbedding",
        "GroupNorm",
        "Irfft",
        "LongformerAttention",
        "NhwcConv",
        "NhwcFusedConv",
        "PackedAttention",
    ),
    *(
        "PackedMultiHeadAttention",
        "PagedAttention",
        "QOrderedAttention",
        "QOrderedGelu",
        "QOrderedLayerNormalization",
    ),
    *(
        "QOrderedLongformerAttention",
        "QOrderedMatMul",
        "RelativePositionBias",
        "RemovePadding",
        "RestorePadding",
        "Rfft",
        "SkipGroupNorm",
    ),
)

#: They hold whole networks and run them until a text ends.
_GENERATORS = ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch")

refuses(
    *(f"com.microsoft.nchwc::{op}" for op in _BLOCKED),
    *(f"com.ms.internal.nhwc::{op}" for op in _INTERNAL),
    why=(
        "the file was saved for one kind of processor; save it at optimisation level 'extended' or"
        " lower, or give the model that it was made from"
    ),
)
refuses(
    *(f"com.microsoft::{op}" for op in _OTHER_PROCESSORS),
    why=(
        "onnxruntime has it for other processors than the CPU alone; give the model as it was"
        " before it was optimised for one"
    ),
)
refuses(
    *(f"com.microsoft::{op}" for op in _GENERATORS),
    why="it generates a text with a network inside it; give that network alone",
)
refuses(
    *(f"com.microsoft::{op}" for op in ("EPContext", "Snpe")),
    why="it holds a network compiled for one device; give the model that it was made from",
)
