"""The network as its file has it, run by onnxruntime as anyone would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.engine.batches import (
    Feed,
    cast_inputs,
    check_inputs,
    check_shared_sizes,
    feeding_of_file,
    first_batch,
    run_batches,
)
from cimrobust.engine.first_pass import check_first_pass
from cimrobust.engine.sessions import open_session, run_session
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.input_file import FileKind, read_input
from cimrobust.onnx_io.batch import coupling_operators
from cimrobust.onnx_io.large_models import require_one_message, tensor_bytes
from cimrobust.onnx_io.loops import open_ended_nodes
from cimrobust.onnx_io.model_files import digest, hashed
from cimrobust.onnx_io.parsed_model import read_without_data
from cimrobust.onnx_io.size_limits import MAX_EXTERNAL_FILE_BYTES, MOST_SESSION_BYTES
from cimrobust.onnx_io.unsigned import exact_file, file_may_saturate

if TYPE_CHECKING:
    from cimrobust.onnx_io.network import FileDigest, Network, TensorSpec

_MODEL = FileKind(
    "model file", MAX_EXTERNAL_FILE_BYTES, missing=InputRefusedError, hint="start again"
)
_NO_ARRAYS: Mapping[str, Shaped[np.ndarray, "..."]] = MappingProxyType({})


def decision_output(outputs: tuple[TensorSpec, ...], name: str | None) -> str:
    """Return the name of the output that decisions are read from.

    Raises:
        UsageError: There is no output of this name.
    """
    names = [spec.name for spec in outputs]
    if name is None:
        return names[0]
    if name not in names:
        raise UsageError(
            f"decision output must be an output of the graph, got '{name}' (graph has {names});"
            " name one of them"
        )
    return name


def run_original(
    network: Network,
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
    constants: Mapping[str, Shaped[np.ndarray, "..."]] = _NO_ARRAYS,
    *,
    output: str | None = None,
    batch_size: int = 16,
    threads: int = 1,
) -> Shaped[np.ndarray, "samples ..."]:
    """Return the decision output of all samples from the model file itself.

    The loaded model is run where the file cannot be. Either is run as anyone would: one sample at a
    time where samples of one batch change each other's results.

    Args:
        network: The loaded network; its file must not have changed since.
        inputs: Per graph input the samples, along the first axis.
        constants: Arrays that every run gets as they are.
        output: Output that decisions are read from; None: the first.
        batch_size: Samples a run where the file takes any number.
        threads: Batches run at the same time; the result does not depend on it.

    Raises:
        UsageError: Names or arrays do not fit the graph.
        InputRefusedError: The file changed after it was loaded.
        ModelNotCoveredError: The model does not run within the limits of time and memory.
    """
    check_inputs(network.inputs, [*inputs, *constants])
    name = decision_output(network.outputs, output)
    samples, fixed = cast_inputs(network.inputs, inputs), cast_inputs(network.inputs, constants)
    feeding = feeding_of_file(
        network.inputs, samples, batch_size, apart=bool(coupling_operators(network.model))
    )
    check_shared_sizes(network.inputs, network.shared_sizes, samples, fixed)
    model = model_source(network)
    open_ended = open_ended_nodes(network.model)
    if open_ended:
        check_first_pass(model, {**first_batch(samples, feeding), **fixed}, name, nodes=open_ended)
    session = open_session(model, num_bytes=tensor_bytes(network.model))
    del model  # bytes, perhaps as many as the network has
    keys = network.map_keys.get(name) if network.runs_as_file else None

    def run(feed: Feed, _batch: slice) -> Shaped[np.ndarray, "..."]:
        found = run_session(session, name, feed)
        return found if keys is None else scores_of_maps(found, keys)

    return run_batches(run, samples, fixed, feeding, threads=threads)


def scores_of_maps(
    rows: Iterable[Mapping[int | str, float]], keys: Sequence[int | str]
) -> Float32[np.ndarray, "samples labels"]:
    """Return scores in the order of their labels, of an output that maps labels to scores."""
    return np.array([[row[key] for key in keys] for row in rows], dtype=np.float32)


def model_source(network: Network) -> bytes | Path:
    """Return what a session of the file is opened from: its content, or its path.

    Its path where it needs the files beside it.

    Its path as well where it holds many bytes, and is run as it is. Checked against the digests. Of
    a file that cannot be run as it is, the loaded model.

    Where it holds integer products that onnxruntime does not add exactly on every processor, the
    same network is returned in a form that it does.

    Raises:
        InputRefusedError: The file changed after it was loaded.
    """
    folder = network.path.parent
    for known in network.files[1:]:
        _read_again(folder / known.name, known, _read_nothing)
    is_large = network.runs_as_file and network.files[0].num_bytes > MOST_SESSION_BYTES
    from_path = is_large and network.path.suffix == ".onnx"
    if from_path:
        bare = _read_again(network.path, network.files[0], read_without_data)
        if not file_may_saturate(bare):
            return network.path
    content = _read_again(network.path, network.files[0], _read_all)
    if not network.runs_as_file:
        require_one_message(
            tensor_bytes(network.model),
            what="a network that is run in another form than its file",
            where=network.path,
            hint="export it with operators and functions that onnxruntime runs itself",
        )
        content = bytes(network.model.SerializeToString())
    exact = exact_file(content, folder)
    if exact is not None:
        return exact
    if not network.runs_as_file:
        return content
    return network.path if from_path or len(network.files) > 1 else content


def _read_again(
    path: Path, known: FileDigest, read: Callable[[Path, FileKind], tuple[bytes, FileDigest]]
) -> bytes:
    """Read a file of a network, and check that it is the one that was loaded.

    Args:
        path: The file.
        known: What it was.
        read: Returns what is wanted of it, and what it is now.

    Raises:
        InputRefusedError: It changed, or cannot be read any more.
    """
    try:
        content, found = read(path, _MODEL)
    except InputRefusedError as err:
        raise InputRefusedError(f"model file must stay readable during a run; {err}") from err
    if (found.sha256, found.num_bytes) != (known.sha256, known.num_bytes):
        raise InputRefusedError(
            f"model file must not change during a run, got other content ({path}); start again"
        )
    return content


def _read_all(path: Path, kind: FileKind) -> tuple[bytes, FileDigest]:
    content = read_input(path, kind)
    return content, digest(path.name, content)


def _read_nothing(path: Path, kind: FileKind) -> tuple[bytes, FileDigest]:
    return b"", hashed(path, path.name, kind)
