"""Importing this module registers every lowering."""

from cimrobust.graph.lowering import embeddings, gelu, grouped_query, multi_head, norms, rotary, self_attention  # noqa: F401
