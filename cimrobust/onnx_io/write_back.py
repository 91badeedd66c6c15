"""The file of a model with other values in some of its initializers, and nothing else changed.

Names, nodes, operator sets, inputs and outputs, metadata, and where and how each tensor is stored
stay as they are: the protobuf of the file is read, the data of the tensors named is replaced in the
field that holds it, and it is written again. External data keeps its file, offset and length.
A sparse tensor that gets other values becomes a dense one, since training moves its zeros too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from cimrobust.errors import InputRefusedError, ModelNotCoveredError
from cimrobust.files import write_whole
from cimrobust.onnx_io.external import ExternalFiles, location_problem
from cimrobust.onnx_io.model_files import model_kind
from cimrobust.onnx_io.parsed_model import read_model
from cimrobust.onnx_io.problems import join_problems
from cimrobust.onnx_io.size_limits import MAX_MODEL_BYTES
from cimrobust.onnx_io.sparse_tensors import write_out_sparse
from cimrobust.onnx_io.tensors import num_bytes
from cimrobust.onnx_io.views import FLOAT_TYPES
from cimrobust.onnx_io.walk import all_graphs, all_tensors, defined_names, op_name

if TYPE_CHECKING:
    from cimrobust.array_shapes import Float, Shaped

_BITS_IN_INT32 = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})


def write_back(
    path: Path,
    out: Path,
    values: Mapping[str, Float[np.ndarray, "..."]],
    levels: Mapping[str, Shaped[np.ndarray, "..."]] | None = None,
) -> tuple[Path, ...]:
    """Write a model file with other values in some of its initializers.

    Args:
        path: The file, as it was loaded.
        out: Where the new file goes; external data files go beside it, under their own names.
        values: New values, float, by initializer (or output of a Constant node), those of bodies
            included, in the file's shapes.
        levels: For tensors that the file holds as integers: the integers to store, zero point
            included.

    Returns:
        The files written, the model first.

    Raises:
        ModelNotCoveredError: The file has no such tensor; see `require_stored`.
    """
    model = _read(path)
    write_out_sparse(model, only=set(values))
    tensors = _require(path, model, {name: array.shape for name, array in values.items()})
    files = ExternalFiles(path.absolute().parent)
    external = _external_contents(model, files)
    for name, array in values.items():
        tensor = tensors[name]
        data = array if tensor.data_type in FLOAT_TYPES else (levels or {})[name]
        _replace(tensor, np.ascontiguousarray(data), external)
    _update_checksums(model, external)
    return _write(out, model, external)


def require_stored(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ModelNotCoveredError unless `write_back` can write the given tensors.

    They are given by name and shape. The check comes before anything is spent on their values.

    It cannot where a file computes a weight from others, where a function holds it, which may be
    called more than once, or where a body does that shares its name with another.
    """
    model = _read(path)
    write_out_sparse(model, only=set(shapes))
    _require(path, model, shapes)


def _read(path: Path) -> onnx.ModelProto:
    return read_model(path, model_kind(MAX_MODEL_BYTES))[0]


def _require(
    path: Path, model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, TensorProto]:
    """Return the tensors of the file by name; raises ModelNotCoveredError where one is missing."""
    tensors = _stored_tensors(model)
    missing = [
        f"'{name}'"
        for name, shape in shapes.items()
        if name not in tensors or tuple(tensors[name].dims) != shape
    ]
    if missing:
        raise ModelNotCoveredError(
            f"trained tensors must be initializers of the file, got {join_problems(missing)}, which"
            " it computes from others or holds packed, in a function, in attributes of a node or"
            f" under a name used twice ({path}); export the model with these constants folded and"
            " without functions, or freeze them (--freeze)"
        )
    return tensors


def _stored_tensors(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """Return the stored tensors of a model by name.

    They are the initializers of the graph, and the tensors of its Constant nodes by the name of
    their output; of its bodies, those whose names stay when the file is loaded.
    """
    found = dict(_tensors_of(model.graph))
    # Functions bring names of their own when they are inlined.
    bodies = [] if model.functions else list(all_graphs(model.graph))[1:]
    counts = Counter(name for graph in (model.graph, *bodies) for name in defined_names(graph))
    # Of several the loader calls all but the first NAME.1, NAME.2 and so on.
    repeated = tuple(f"{name}." for name, count in counts.items() if count > 1)
    for body in bodies:
        found |= {
            name: tensor
            for name, tensor in _tensors_of(body)
            if counts[name] == 1 and not name.startswith(repeated)
        }
    return found


def _tensors_of(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if op_name(node) == "Constant":
            yield from (
                (node.output[0], attribute.t)
                for attribute in node.attribute
                if attribute.name == "value"
            )


def _external_contents(model: onnx.ModelProto, files: ExternalFiles) -> dict[str, bytearray]:
    """Return the content of every external data file of a model, by location.

    Raises:
        InputRefusedError: A location is unsafe.
    """
    contents: dict[str, bytearray] = {}
    for tensor in all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        location = _external(tensor)["location"]
        problem = location_problem(location)
        if problem:
            raise InputRefusedError(
                f"tensor '{tensor.name}': {problem}; keep external data beside the model"
            )
        if location not in contents:
            contents[location] = bytearray(files.read(location))
    return contents


def _external(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _replace(
    tensor: TensorProto, array: Shaped[np.ndarray, "..."], external: Mapping[str, bytearray]
) -> None:
    """Put an array into the field that holds a tensor's data, in the tensor's type."""
    stored = array.astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    raw = numpy_helper.from_array(stored, tensor.name).raw_data
    if tensor.data_location == TensorProto.EXTERNAL:
        place = _external(tensor)
        offset = int(place.get("offset", "0"))
        content = external[place["location"]]
        content[offset : offset + num_bytes(tensor)] = raw
    elif tensor.HasField("raw_data"):
        tensor.raw_data = raw
    elif tensor.data_type == TensorProto.FLOAT:
        tensor.float_data[:] = stored.reshape(-1).tolist()
    elif tensor.data_type == TensorProto.DOUBLE:
        tensor.double_data[:] = stored.reshape(-1).tolist()
    else:
        width = (
            np.uint16
            if tensor.data_type in _BITS_IN_INT32
            else np.uint8
            if len(raw) < stored.size
            else None
        )
        entries = (
            stored.reshape(-1).astype(np.int64) if width is None else np.frombuffer(raw, width)
        )
        tensor.int32_data[:] = entries.tolist()


def _update_checksums(model: onnx.ModelProto, external: Mapping[str, bytearray]) -> None:
    """Write the digest of external files again where a tensor states one.

    ONNX wants the SHA-1 of the whole file.
    """
    for tensor in all_tensors(model):
        for entry in tensor.external_data:
            if entry.key == "checksum":
                entry.value = hashlib.sha1(
                    external[_external(tensor)["location"]], usedforsecurity=False
                ).hexdigest()


def _write(
    out: Path, model: onnx.ModelProto, external: Mapping[str, bytearray]
) -> tuple[Path, ...]:
    written = []
    for location, content in external.items():
        place = out.parent / PurePosixPath(location)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, bytes(content))
        written.append(place)
    write_whole(out, model.SerializeToString(deterministic=True))
    return (out, *written)
