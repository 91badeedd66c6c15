"""Embedding layers of BERT-like networks."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from cimrobust.graph.lowering.job import Job
from cimrobust.graph.lowering.norms import layer_norm
from cimrobust.graph.lowering.parts import require_opset, size_of, steps, total
from cimrobust.graph.lowering.registry import lowers

_SINCE = 11


@lowers("com.microsoft::EmbedLayerNormalization")
def embed_layer_normalization(job: Job) -> None:
    """Gather, Add, LayerNormalization; before operator set 17 written out."""
    require_opset(job, _SINCE)
    ids, segments, words, places, kinds, gamma, beta, mask, positions = (job.input(index) for index in range(9))
    elem_type = job.elem_type(job.known(words, gamma))
    if not positions:
        positions = steps(job, job.axes(0), size_of(job, ids, 1))
    looked_up = [
        job.add("Gather", table, rows, axis=0, wish="look_up")
        for table, rows in ((words, ids), (places, positions), (kinds, segments))
        if table and rows
    ]
    summed = total(job, *looked_up)
    result = layer_norm(job, summed, gamma, beta, elem_type)
    job.finish(result, _num_ones(job, mask, ids) if job.wants(1) else "", summed if job.wants(2) else "")


def _num_ones(job: Job, mask: str, ids: str) -> str:
    """Return [batch], int32: how many tokens of a sample are no padding, 0 where the node has no mask."""
    if not mask:
        zero = job.constant(np.zeros(1, np.int32), "zero")
        return job.add("Expand", zero, size_of(job, ids, 0))
    ones = job.add("Cast", job.add("Equal", mask, job.constant(np.ones(1, np.int32), "one")), to=TensorProto.INT32)
    if job.opset >= 13:
        return job.add("ReduceSum", ones, job.axes(1), keepdims=0)
    return job.add("ReduceSum", ones, axes=[1], keepdims=0)
