"""Importing this module registers every lowering."""

from cimrobust.graph.lowering import gelu  # noqa: F401
