"""Importing this module registers every converter."""

from __future__ import annotations

from cimrobust.twin.ops import (  # noqa: F401
    activation_ops,
    control,
    conv,
    elementwise,
    fused_ops,
    gather,
    generate,
    hard_steps,
    matmul,
    normalisation_ops,
    onnx2torch_ops,
    padding,
    pool,
    qlinear,
    qlinear_elementwise,
    quantize,
    recurrent,
    reduce,
    resize,
    shape_ops,
    vision,
)
from cimrobust.twin.ops.function_ops import function_kernel
from cimrobust.twin.ops.program import SOURCES

if function_kernel not in SOURCES:
    SOURCES.append(function_kernel)
