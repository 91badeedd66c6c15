"""Importing this module registers every lowering."""

from cimrobust.onnx_io.lowering import (  # noqa: F401
    block_quantised,
    channels_last,
    embeddings,
    feature_tables,
    fused_layers,
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
