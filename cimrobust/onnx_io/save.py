"""A network with other weights, as a model of its own and as a file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto

from cimrobust.errors import ModelNotCoveredError
from cimrobust.files import folder_of_call, write_parts, write_whole
from cimrobust.late_arrays import LateArrays
from cimrobust.onnx_io.half_weights import read_as_halves, take_halves, to_half
from cimrobust.onnx_io.large_models import (
    is_large,
    large_initializers,
    mark_external,
    tensor_bytes,
    without_data,
)
from cimrobust.onnx_io.memory_needs import SMALLER
from cimrobust.onnx_io.size_limits import MOST_SESSION_BYTES
from cimrobust.onnx_io.tensors import encode, num_bytes
from cimrobust.printable_text import printable

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.onnx_io.network import Network

# Bytes to a multiple of which the data of a tensor begin, as runtimes that map files want them.
_ALIGNED = 4096


@dataclass(frozen=True)
class Weighted:
    """A model, and other values for some of its initializers; made by `weighted`.

    Attributes:
        model: The model; it may hold no values for those initializers.
        weights: Their values, each read once.
    """

    model: onnx.ModelProto
    weights: Mapping[str, Shaped[np.ndarray, "..."]]


#: What `save_model` writes; callers need not know what it is.
Model = onnx.ModelProto | Weighted


def weighted(deployed: Deployed, weights: Mapping[str, Shaped[np.ndarray, "..."]]) -> Weighted:
    """Return the deployed model with other weights, of which nothing is copied.

    Arguments and errors as `with_weights`; wrong values are found when they are read.
    """
    return Weighted(deployed.model, _Checked(deployed, weights))


def with_weights(
    deployed: Deployed, weights: Mapping[str, Shaped[np.ndarray, "..."]]
) -> onnx.ModelProto:
    """Return the deployed model with other values in its stored initializers.

    Args:
        deployed: The network.
        weights: float32 values by initializer name, own shapes; initializers not named keep their
            values.

    Raises:
        ValueError: A name is not stored, or a shape or type differs.
    """
    return _with_values(deployed.model, _Checked(deployed, weights))


class _Checked(LateArrays):
    """Weights that raise ValueError when they are read and are not those of an initializer."""

    def __init__(
        self, deployed: Deployed, weights: Mapping[str, Shaped[np.ndarray, "..."]]
    ) -> None:
        def checked(name: str) -> Shaped[np.ndarray, "..."]:
            values, expected = weights[name], deployed.weight_shapes.get(name)
            if (
                expected is None
                or tuple(values.shape) != tuple(expected)
                or values.dtype != np.float32
            ):
                raise ValueError(
                    f"weight '{name}' must be stored, float32 and of shape {expected}, got"
                    f" {values.dtype} of shape {values.shape}"
                )
            return values

        for name in set(weights) - set(deployed.weight_names):
            checked(name)
        super().__init__(weights, checked)


def _with_values(model: onnx.ModelProto, weights: Mapping[str, Any]) -> onnx.ModelProto:
    """Return a model with other values; whoever looks at one before its turn makes it twice."""
    changed = without_data(model, weights)
    for tensor in changed.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(encode(weights[tensor.name], tensor.name))
    return changed


def with_initializers(
    network: Network, weights: Mapping[str, Shaped[np.ndarray, "..."]]
) -> onnx.ModelProto:
    """Return the model of a network with other values in some initializers.

    The initializers must be in the network, of the same shape and type.

    Raises:
        ValueError: A name is not stored, or a shape or type differs.
    """
    for name, values in weights.items():
        stored = network.initializers.get(name)
        if stored is None or stored.shape != values.shape or stored.dtype != values.dtype:
            raise ValueError(
                f"weight '{name}' must be stored with the same shape and type, got {values.dtype}"
                f" of shape {values.shape}"
            )
    return _with_values(network.model, weights)


def save_model(model: Model, path: Path) -> tuple[Path, ...]:
    """Write a model so that its files appear whole or not at all.

    One that does not fit into one file has its large initializers in a second one beside it, named
    by `data_file`, which is written first.

    Returns:
        The files written, the model first.

    Raises:
        ModelNotCoveredError: What is left of it does not fit into one ONNX file.
    """
    path = Path(path)
    given = model if isinstance(model, Weighted) else Weighted(model, {})
    if not is_large(given.model):
        write_whole(path, to_bytes(_whole(given), path))
        return (path,)
    return _save_apart(given, path)


def _save_apart(
    given: Weighted, path: Path, *, halves: frozenset[str] = frozenset()
) -> tuple[Path, ...]:
    """Write a model with its large initializers in a file beside it, as `save_model` does.

    Args:
        given: The model.
        path: Where to.
        halves: Given weights that are written as float16, of `half_weights.read_as_halves`.
    """
    apart, place = large_initializers(given.model, given.weights), data_file(path)
    halves &= {tensor.name for tensor in apart}
    bare = without_data(given.model, [tensor.name for tensor in apart])
    take_halves(bare, halves)
    tensors = {tensor.name: tensor for tensor in bare.graph.initializer}
    offset = 0
    for tensor in apart:
        size = num_bytes(tensors[tensor.name])
        mark_external(tensors[tensor.name], location=place.name, offset=offset, length=size)
        offset += size + -size % _ALIGNED
    inside = {name: given.weights[name] for name in given.weights.keys() - {t.name for t in apart}}
    content = to_bytes(_whole(Weighted(bare, inside)), path)
    write_parts(place, _data(apart, given.weights, halves))
    write_whole(path, content)
    return path, place


def _whole(given: Weighted) -> onnx.ModelProto:
    return _with_values(given.model, given.weights) if given.weights else given.model


def _data(
    tensors: Iterable[TensorProto],
    weights: Mapping[str, Shaped[np.ndarray, "..."]],
    halves: Collection[str],
) -> Iterator[bytes]:
    """Yield the data of one tensor after the other, each followed by what aligns the next."""
    for tensor in tensors:
        if tensor.name in weights:
            values = weights[tensor.name]
            data = encode(to_half(values) if tensor.name in halves else values, "").raw_data
        else:
            data = tensor.raw_data
        yield data
        yield bytes(-len(data) % _ALIGNED)


def data_file(path: Path) -> Path:
    """Return where the large initializers of a model are that does not fit into one file."""
    return path.with_name(f"{path.name}.data")


@contextmanager
def session_source(model: Model) -> Iterator[bytes | Path]:
    """Give what a session of a model is opened from, while it is opened.

    Its bytes, or, where they are many, the path of a file in a private folder: a session maps the
    data of a file, and makes two copies of bytes beside the caller's.
    """
    given = model if isinstance(model, Weighted) else Weighted(model, {})
    if tensor_bytes(given.model) <= MOST_SESSION_BYTES and not is_large(given.model):
        yield bytes(_whole(given).SerializeToString())
        return
    with folder_of_call() as folder:
        halves = read_as_halves(given.model, given.weights)
        yield _save_apart(given, folder / "model.onnx", halves=halves)[0]


def to_bytes(model: onnx.ModelProto, path: Path) -> bytes:
    """Return a model as the content of a file.

    Raises:
        ModelNotCoveredError: It does not fit in one ONNX file; names `path`.
    """
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except Exception as err:  # protobuf raises different kinds for messages over its limit
        raise ModelNotCoveredError(
            f"model must fit in one ONNX file of 2 GiB, got '{printable(err)}' ({printable(path)});"
            f" {SMALLER}"
        ) from err
