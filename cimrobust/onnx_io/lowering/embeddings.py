"""Embedding layers of BERT-like networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.norms import layer_norm
from cimrobust.onnx_io.lowering.standard_nodes import require_opset, size_of, steps, total

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

_SINCE = 11


@lowers("com.microsoft::EmbedLayerNormalization")
def embed_layer_normalization(job: Job) -> None:
    """Gather, Add, LayerNormalization; before operator set 17 written out."""
    require_opset(job, _SINCE)
    ids, segments, words, places, kinds, gamma, beta, mask, positions = (
        job.input(index) for index in range(9)
    )
    elem_type = job.elem_type(job.known(words, gamma))
    tables = [words, places, kinds]
    finish_embedding(
        job,
        (ids, positions, segments),
        tables,
        lambda _index, rows: rows,
        gamma=gamma,
        beta=beta,
        mask=mask,
        elem_type=elem_type,
    )


def finish_embedding(
    job: Job,
    rows: tuple[str, str, str],
    tables: Sequence[str],
    as_real: Callable[[int, str], str],
    *,
    gamma: str,
    beta: str,
    mask: str,
    elem_type: int,
) -> None:
    """Add look-ups, their sum and its normalisation.

    Args:
        job: The node.
        rows: Words, positions (``""`` for one after the other) and segments of every token, [batch,
            tokens].
        tables: Embeddings of words, positions and segments.
        as_real: What makes real numbers of the rows of the table with an index.
        gamma: Scale of the normalisation.
        beta: Shift.
        mask: 1 for tokens that are no padding, ``""`` for none.
        elem_type: Element type of the result.
    """
    ids, positions, segments = rows
    positions = positions or steps(job, job.axes(0), size_of(job, ids, 1))
    pairs = zip(tables, (ids, positions, segments), strict=True)
    looked_up = [
        as_real(index, job.add("Gather", table, row, axis=0, wish="look_up"))
        for index, (table, row) in enumerate(pairs)
        if table and row
    ]
    summed = total(job, *looked_up)
    result = layer_norm(job, summed, gamma, beta, elem_type)
    job.finish(
        result,
        _num_ones(job, mask, ids) if job.wants(1) else "",
        summed if job.wants(2) else "",
        integers=[1],
    )


def _num_ones(job: Job, mask: str, ids: str) -> str:
    """Return [batch], int32.

    How many tokens of a sample are no padding, 0 where the node has no mask.
    """
    if not mask:
        zero = job.constant(np.zeros(1, np.int32), "zero")
        return job.add("Expand", zero, size_of(job, ids, 0))
    ones = job.add(
        "Cast",
        job.add("Equal", mask, job.constant(np.ones(1, np.int32), "one")),
        to=TensorProto.INT32,
    )
    if job.opset >= 13:
        return job.add("ReduceSum", ones, job.axes(1), keepdims=0)
    return job.add("ReduceSum", ones, axes=[1], keepdims=0)
