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
    matmul,
    normalisation_ops,
    padding,
    pool,
    qlinear,
    quantize,
    recurrent,
    reduce,
    resize,
    shape_ops,
    vision,
)
from cimrobust.twin.ops.function_ops import function_kernel
from cimrobust.twin.ops.library import library_kernel
from cimrobust.twin.ops.program import SOURCES, Source

_OTHERS: tuple[Source, ...] = (function_kernel, library_kernel)
SOURCES.extend(source for source in _OTHERS if source not in SOURCES)
