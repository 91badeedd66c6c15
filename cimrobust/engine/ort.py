"""The deployed path: a network run by onnxruntime with given programmed weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Shaped

from cimrobust.engine.batches import (
    Feed,
    Feeding,
    automatic_batch_size,
    cast_inputs,
    check_inputs,
    check_shared_sizes,
    feeding_of_file,
    first_batch,
    run_batches,
)
from cimrobust.engine.first_pass import check_first_pass
from cimrobust.engine.kernel import late_chip, program_chip
from cimrobust.engine.optimised_template import LateTemplate
from cimrobust.engine.sessions import open_session, run_session
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.freed_memory import return_freed
from cimrobust.input_file import FileKind, read_input
from cimrobust.onnx_io.batch import coupling_operators
from cimrobust.onnx_io.half_weights import to_half
from cimrobust.onnx_io.large_models import require_one_message, tensor_bytes
from cimrobust.onnx_io.loops import open_ended_nodes
from cimrobust.onnx_io.model_files import digest, hashed
from cimrobust.onnx_io.parsed_model import read_without_data
from cimrobust.onnx_io.session_template import halved_weights, session_template
from cimrobust.onnx_io.size_limits import MAX_EXTERNAL_FILE_BYTES, MOST_SESSION_BYTES
from cimrobust.onnx_io.unsigned import exact_file, file_may_saturate

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.onnx_io.network import FileDigest, Network, TensorSpec

_MODEL = FileKind(
    "model file", MAX_EXTERNAL_FILE_BYTES, missing=InputRefusedError, hint="start again"
)
_NO_ARRAYS: Mapping[str, Shaped[np.ndarray, "..."]] = MappingProxyType({})


class OpenNetwork:
    """A session with one set of weights.

    Close it, or use it in a ``with`` statement, before the weight arrays are written again.
    """

    def __init__(
        self,
        session: Any,
        *,
        inputs: tuple[TensorSpec, ...],
        output: str,
        feeding: Feeding,
        keep: tuple[Float[np.ndarray, "..."], ...],
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._output = output
        self._feeding = feeding
        # onnxruntime reads the weights from these arrays as long as the session lives.
        self._keep = keep

    def run(
        self,
        inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
        constants: Mapping[str, Shaped[np.ndarray, "..."]] = _NO_ARRAYS,
        *,
        threads: int = 1,
    ) -> Shaped[np.ndarray, "samples ..."]:
        """Return the decision output of all samples, samples along the first axis.

        Args:
            inputs: Per graph input the samples, along the first axis.
            constants: Arrays that every run gets as they are.
            threads: Batches run at the same time; the result does not depend on it.

        Raises:
            UsageError: Arrays do not fit the graph.
        """
        feed, fixed = cast_inputs(self._inputs, inputs), cast_inputs(self._inputs, constants)
        return run_batches(self._run_once, feed, fixed, self._feeding, threads=threads)

    def _run_once(self, feed: Feed, _batch: slice) -> Shaped[np.ndarray, "..."]:
        return run_session(self._session, self._output, feed)

    def close(self) -> None:
        """Free the session; the weight arrays may be written again."""
        freed = sum(array.nbytes for array in self._keep)
        self._session = None
        self._keep = ()
        return_freed(freed)

    def __enter__(self) -> OpenNetwork:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class OrtEngine:
    """Opens a deployed network with any weights; safe to use from many threads.

    Attributes:
        deployed: The network.
        output: Output that decisions are read from.
        feeding: How samples are fed.
    """

    def __init__(
        self,
        deployed: Deployed,
        *,
        output: str | None = None,
        threads: int = 1,
        batch_size: int | None = None,
        feeding: Feeding | None = None,
    ) -> None:
        """Prepare the template that all sessions are opened from.

        Args:
            deployed: The network with its mapped weights as plain float32 initializers.
            output: Output that decisions are read from; None: the first.
            threads: Batches of one `run` that are run at the same time unless it says otherwise.
            batch_size: Samples a run for networks that take any number; None: chosen from the size
                of the activations.
            feeding: Overrides what the network says about its sample axis.

        Raises:
            UsageError: There is no such output.
        """
        self.deployed = deployed
        self.output = decision_output(deployed.outputs, output)
        self.feeding = feeding or _feeding_of(deployed, batch_size)
        self._threads = threads
        self._template, self._others = session_template(deployed)
        self._halved, self._num_bytes = halved_weights(deployed), tensor_bytes(deployed.model)
        # A template that needs further arrays is that of a large network.
        self._late = (
            None if self._others else LateTemplate(self._template, deployed, self.feeding.size)
        )

    @property
    def batch_size(self) -> int:
        """Samples of one run."""
        return self.feeding.size

    def buffers(self, placement: Placement) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return arrays that one chip after the other can be drawn into.

        None where sessions take weights as float16: chips are then drawn while they open.
        """
        if self._halved:
            return {}
        return {
            name: np.empty(tensor.shape, np.float32) for name, tensor in placement.tensors.items()
        }

    def draw(
        self,
        placement: Placement,
        *,
        seed: int,
        trial: int,
        out: Mapping[str, Float32[np.ndarray, "..."]] | None = None,
    ) -> Mapping[str, Shaped[np.ndarray, "..."]]:
        """Draw one chip by `kernel.program_chip`, or by `late_chip` where there are halves."""
        if self._halved:
            return late_chip(placement, seed=seed, trial=trial)
        return program_chip(placement, seed=seed, trial=trial, out=out)

    def open(self, weights: Mapping[str, Float[np.ndarray, "..."]]) -> OpenNetwork:
        """Open a session with these weights in place before the graph is optimised.

        Args:
            weights: Every mapped initializer by name, in its own shape, float32; each is read
                once. C-contiguous arrays are not copied, unless they are handed over as float16,
                and must not change until the network is closed.

        Raises:
            UsageError: Names or shapes are not those of the mapped initializers.
        """
        placed = self.handed(weights)
        keep = tuple(placed.values())
        optimised = None if self._late is None else self._late.for_next()
        if optimised is None:
            session = open_session(
                self._template, weights={**placed, **self._others}, num_bytes=self._num_bytes
            )
        else:
            session, keep = optimised.open(placed)
        return OpenNetwork(
            session,
            inputs=self.deployed.inputs,
            output=self.output,
            feeding=self.feeding,
            keep=keep,
        )

    def run(
        self,
        weights: Mapping[str, Float[np.ndarray, "..."]],
        inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]],
        constants: Mapping[str, Shaped[np.ndarray, "..."]] = _NO_ARRAYS,
        *,
        threads: int | None = None,
    ) -> Shaped[np.ndarray, "samples ..."]:
        """Return the decision output of all samples with these weights.

        Samples are along the first axis.
        """
        with self.open(weights) as network:
            return network.run(inputs, constants, threads=threads or self._threads)

    def handed(
        self, weights: Mapping[str, Shaped[np.ndarray, "..."]]
    ) -> dict[str, Shaped[np.ndarray, "..."]]:
        """Return weights in the form in which sessions take them without a copy.

        Arguments and errors as for `open`, which takes what this returns too.
        """
        expected = self.deployed.weight_shapes
        if set(weights) != set(expected):
            missing, unknown = (
                sorted(set(expected) - set(weights)),
                sorted(set(weights) - set(expected)),
            )
            raise UsageError(
                f"weights must be given for every mapped initializer, got missing {missing},"
                f" unknown {unknown} (engine); add them"
            )
        return {name: self._handed(name, weights[name]) for name in self.deployed.weight_names}

    def _handed(self, name: str, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "*weight"]:
        """Return a tensor as sessions take it."""
        shape = tuple(self.deployed.weight_shapes[name])
        if tuple(array.shape) != shape:
            raise UsageError(
                f"weights '{name}' must have shape {shape}, got {tuple(array.shape)} (engine);"
                " give them in the shape of the initializer"
            )
        if name in self._halved:
            if array.dtype == np.float16:
                return array
            return np.ascontiguousarray(to_half(np.asarray(array, dtype=np.float32)))
        return np.ascontiguousarray(array, dtype=np.float32).reshape(shape)


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
    model = _model_file(network)
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


def _model_file(network: Network) -> bytes | Path:
    """Return the content of the model file, or its path where it needs the files beside it.

    Its path as well where it holds many bytes, and is run as it is. Checked against the digests. Of
    a file that cannot be run as it is, the loaded model.

    Where it holds integer products that onnxruntime does not add exactly on every processor, the
    same network is returned in a form that it does.
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


def model_source(network: Network) -> bytes | Path:
    """Return what a session of the file of a network is opened from.

    Raises:
        InputRefusedError: The file changed after it was loaded.
    """
    return _model_file(network)


def _feeding_of(deployed: Deployed, batch_size: int | None) -> Feeding:
    if deployed.batch == "none":
        return Feeding("none", 1)
    if deployed.batch == "fixed":
        return Feeding("fixed", deployed.batch_size or 1)
    return Feeding("free", batch_size or automatic_batch_size(deployed))
