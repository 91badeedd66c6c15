"""Importing this module registers every converter."""

from __future__ import annotations

from cimrobust.graph.ops import (  # noqa: F401
    activations,
    control,
    conv,
    elementwise,
    fused,
    gather,
    generate,
    matmul,
    normalise,
    padding,
    pool,
    qlinear,
    quantize,
    recurrent,
    reduce,
    resize,
    shapes,
    vision,
)
from cimrobust.graph.ops.functions import function_kernel
from cimrobust.graph.ops.library import library_kernel
from cimrobust.graph.ops.program import SOURCES, Source

_OTHERS: tuple[Source, ...] = (function_kernel, library_kernel)
SOURCES.extend(source for source in _OTHERS if source not in SOURCES)
