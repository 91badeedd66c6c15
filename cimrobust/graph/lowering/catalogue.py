"""Importing this module registers every lowering."""

from cimrobust.graph.lowering import (  # noqa: F401
    block_quantised,
    channels_last,
    embeddings,
    feature_tables,
    fused,
    gelu,
    grouped_query,
    linear_models,
    multi_head,
    norms,
    qonnx,
    quantised_attention,
    quantised_lstm,
    refused,
    renamed,
    rotary,
    self_attention,
)
