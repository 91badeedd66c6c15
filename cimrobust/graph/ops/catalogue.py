"""Importing this module registers every converter."""

from __future__ import annotations

from cimrobust.graph.ops import (  # noqa: F401
    activations,
    conv,
    elementwise,
    gather,
    generate,
    matmul,
    normalise,
    pool,
    qlinear,
    quantize,
    reduce,
    shapes,
)
