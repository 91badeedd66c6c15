"""Importing this module registers every lowering."""

from cimrobust.graph.lowering import gelu, norms, self_attention  # noqa: F401
