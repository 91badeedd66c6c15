"""Sparse tensors of a file, written out with their zeros.

A device holds a zero as it holds any other weight, so that nothing behind the loader tells a sparse
tensor from a dense one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

from cimrobust.onnx_io.tensors import data_problem, decode, form_problem, num_bytes
from cimrobust.onnx_io.walk import all_graphs, op_name, subgraphs

if TYPE_CHECKING:
    from cimrobust.array_shapes import Int64


def dense_sizes(model: onnx.ModelProto) -> list[int]:
    """Return the bytes that each well-formed sparse tensor of a model takes with its zeros."""
    return [
        num_bytes(_header(tensor)) for tensor in _all_sparse(model) if not _form_problem(tensor)
    ]


def write_out_sparse(model: onnx.ModelProto, only: AbstractSet[str] | None = None) -> list[str]:
    """Turn sparse initializers, and those of Constant nodes, into dense ones, in place.

    Bodies and functions included.

    Args:
        model: The model.
        only: Names of initializers, or of outputs of Constant nodes, to turn; None for all.

    Returns:
        What is wrong with sparse tensors; those are left as they are.
    """
    problems: list[str] = []
    for graph in _graphs(model):
        kept = []
        for sparse in graph.sparse_initializer:
            wanted = only is None or sparse.values.name in only
            problem = sparse_problem(sparse) if wanted else None
            problems += [problem] if problem else []
            if problem or not wanted:
                kept.append(sparse)
            else:
                graph.initializer.append(dense(sparse))
        if len(kept) < len(graph.sparse_initializer):
            copies = [_copy(sparse) for sparse in kept]
            del graph.sparse_initializer[:]
            graph.sparse_initializer.extend(copies)
    for node, attribute in _sparse_constants(model):
        if only is not None and not only & set(node.output):
            continue
        problem = sparse_problem(attribute.sparse_tensor)
        if problem:
            problems.append(problem)
        else:
            values = dense(attribute.sparse_tensor)
            attribute.CopyFrom(onnx.helper.make_attribute("value", values))
    return problems


def sparse_problem(sparse: onnx.SparseTensorProto) -> str | None:
    """Return what is wrong with a sparse tensor, None if nothing.

    References:
        onnx.proto, SparseTensorProto: indices are those of the axes or of the flattened tensor,
        in ascending order and without repetition.
    """
    problem = _form_problem(sparse) or data_problem(sparse.values) or data_problem(sparse.indices)
    if problem:
        return problem
    name, count = f"sparse tensor '{sparse.values.name}'", sparse.values.dims[0]
    shape, found = tuple(sparse.dims), tuple(sparse.indices.dims)
    if found not in ((count,), (count, len(shape))):
        return (
            f"{name} of {count} values and {len(shape)} axes needs indices of shape [{count}] or"
            f" [{count}, {len(shape)}], holds {list(found)}"
        )
    indices = decode(sparse.indices)
    limits = np.asarray(math.prod(shape) if indices.ndim == 1 else shape)
    if ((indices < 0) | (indices >= limits)).any():
        return f"{name} of shape {list(shape)} has indices outside it"
    if (np.diff(_places(sparse)) <= 0).any():
        return f"{name} has indices that do not ascend"
    return None


def dense(sparse: onnx.SparseTensorProto) -> TensorProto:
    """Return a sound sparse tensor with its zeros, under the same name."""
    given = decode(sparse.values)
    values = np.zeros(tuple(sparse.dims), given.dtype)
    values.reshape(-1)[_places(sparse)] = given
    return numpy_helper.from_array(values, sparse.values.name)


def _places(sparse: onnx.SparseTensorProto) -> Int64[np.ndarray, "values"]:
    indices = decode(sparse.indices)
    if indices.ndim == 1:
        return indices
    strides = np.cumprod([1, *reversed(sparse.dims[1:])])[::-1]
    places: Int64[np.ndarray, "values"] = indices @ strides.astype(np.int64)
    return places


def _form_problem(sparse: onnx.SparseTensorProto) -> str | None:
    name = f"sparse tensor '{sparse.values.name}'"
    problem = (
        form_problem(sparse.values) or form_problem(sparse.indices) or form_problem(_header(sparse))
    )
    if problem:
        return problem
    if sparse.values.data_type == TensorProto.STRING:
        return f"{name} holds texts, which have no zeros to leave out"
    if sparse.indices.data_type != TensorProto.INT64 or len(sparse.values.dims) != 1:
        return f"{name} needs int64 indices and values along one axis"
    if not sparse.dims:
        return f"{name} has no shape"
    if TensorProto.EXTERNAL in (sparse.values.data_location, sparse.indices.data_location):
        return f"{name} keeps its data in another file, which no runtime reads"
    return None


def _header(sparse: onnx.SparseTensorProto) -> TensorProto:
    """Return a tensor without data that has type, shape and name of a sparse one."""
    return TensorProto(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)


def _all_sparse(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    for graph in _graphs(model):
        yield from graph.sparse_initializer
    yield from (attribute.sparse_tensor for _, attribute in _sparse_constants(model))


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield from all_graphs(model.graph)
    for function in model.functions:
        for node in function.node:
            for body in subgraphs(node):
                yield from all_graphs(body)


def _sparse_constants(
    model: onnx.ModelProto,
) -> Iterator[tuple[onnx.NodeProto, onnx.AttributeProto]]:
    """Yield the Constant nodes that hold a sparse tensor, with the attribute that holds it."""
    nodes = [node for graph in _graphs(model) for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    for node in nodes:
        if op_name(node) != "Constant":
            continue
        for attribute in node.attribute:
            if attribute.type == AttributeProto.SPARSE_TENSOR and not attribute.ref_attr_name:
                yield node, attribute


def _copy(sparse: onnx.SparseTensorProto) -> onnx.SparseTensorProto:
    copy = onnx.SparseTensorProto()
    copy.CopyFrom(sparse)
    return copy
