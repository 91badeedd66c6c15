"""onnxruntime sessions as this package opens them.

One thread, quiet, full graph optimisation, memory given back on closing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from jaxtyping import Shaped

from cimrobust.engine.watchdog import limited_run
from cimrobust.errors import CimrobustError, ModelNotCoveredError, UsageError
from cimrobust.freed_memory import LARGE, blocks_apart
from cimrobust.printable_text import printable

# Errors are raised as exceptions, with the text that would be printed.
_FATAL_ONLY = 4

#: Session options that make results those of ONNX arithmetic on every processor; `graph.unsigned`
#: does what they do not reach. Without the first, x86 processors without VNNI add pairs of u8 x s8
#: products in saturating 16 bits. Without the second, a product with 4 bit weights rounds its
#: activations to 8 bits. Without the third, Arm processors with SME give every row of a dynamically
#: quantised product a range of its own.
_REWRITES = "session.x64quantprecision"
EXACT = {
    _REWRITES: "1",
    "session.qdq_matmulnbits_accuracy_level": "1",
    "mlas.disable_kleidiai": "1",
}


def session_options(num_bytes: int = 0) -> Any:
    """Return the options of every session.

    One thread a session: trials run side by side instead, and no result depends on a thread count.
    Memory patterns are off because they keep one block per batch size alive; with them, memory was
    seen to creep up over hundreds of sessions, without them it stays flat. Packed weights of large
    networks are not taken from the arena, which grows by powers of two.

    Args:
        num_bytes: Bytes of its tensors, where they may be many.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    for key, value in EXACT.items():
        options.add_session_config_entry(key, value)
    if num_bytes >= LARGE:
        options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return options


def open_session(
    model: bytes | Path,
    *,
    weights: Mapping[str, Shaped[np.ndarray, "..."]] | None = None,
    is_optimised: bool = False,
    shares_memory: bool = False,
    num_bytes: int = 0,
) -> Any:
    """Open a session, optionally with weights handed over in memory.

    They are for initializers that the model marks as external.

    The weights are in place before the graph is optimised, so that folding and fusing see them.
    (`SessionOptions.add_initializer` on a model that has the weights inside does not do that:
    wherever a weight is folded or fused, the override is ignored without a warning.)

    Args:
        model: Serialised model, or the path of a model file.
        weights: float32 or float16 arrays, C-contiguous; the caller must neither change nor free
            them while the session lives.
        is_optimised: Whether `write_optimised` has made the model, which then stays as it is.
        shares_memory: For an optimised model: whether what it frees is kept for the next session.
            Fresh memory costs more than opening a small network does.
        num_bytes: Bytes of its tensors as the file has them, where they may be many; see
            `freed_memory.blocks_apart`.

    Raises:
        ModelNotCoveredError: onnxruntime cannot open the model.
    """
    try:
        if is_optimised:
            return _open(model, weights or {}, _as_it_is(shares_memory=shares_memory))
        with blocks_apart(num_bytes):
            return _open_with_or_without(model, weights or {}, num_bytes)
    except Exception as err:
        raise ModelNotCoveredError(
            f"model must open in onnxruntime {ort.__version__}, got: {printable(err)} (session);"
            " export it with operators that runtime has"
        ) from err


def write_optimised(
    model: bytes,
    *,
    weights: Mapping[str, Shaped[np.ndarray, "..."]],
    path: Path,
    is_optimised: bool = False,
) -> bytes:
    """Return a model as onnxruntime runs it on this processor.

    Args:
        model: Serialised model.
        weights: As for `open_session`.
        path: File to write on the way.
        is_optimised: As for `open_session`.

    Raises:
        ModelNotCoveredError: onnxruntime cannot open the model.
        OSError: The file cannot be read.
    """
    options = _as_it_is() if is_optimised else session_options()
    options.optimized_model_filepath = str(path)
    try:
        _open(model, weights, options)
    except Exception as err:
        raise ModelNotCoveredError(
            f"model must be optimised by onnxruntime, got: {printable(err)}; report this model"
        ) from err
    return path.read_bytes()


def _as_it_is(*, shares_memory: bool = False) -> Any:
    options = session_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if shares_memory:
        _register_shared_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _register_shared_memory() -> None:
    """Let sessions that ask for it share one arena, which grows by what they ask for."""
    where = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    as_requested = ort.OrtArenaCfg({"arena_extend_strategy": 1})
    ort.create_and_register_allocator(where, as_requested)


def _open_with_or_without(
    model: bytes | Path, weights: Mapping[str, Shaped[np.ndarray, "..."]], num_bytes: int
) -> Any:
    """Open a session.

    Where onnxruntime's own rewriting of products stops with an error, without it: `graph.unsigned`
    has done it already.
    """
    try:
        return _open(model, weights, session_options(num_bytes))
    except Exception as first:
        options = session_options(num_bytes)
        options.add_session_config_entry(_REWRITES, "0")
        try:
            return _open(model, weights, options)
        except Exception:
            raise first from None


def _open(
    model: bytes | Path, weights: Mapping[str, Shaped[np.ndarray, "..."]], options: Any
) -> Any:
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    source = str(model) if isinstance(model, Path) else model
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_session(
    session: Any, output: str, feed: Mapping[str, Shaped[np.ndarray, "..."]]
) -> Shaped[np.ndarray, "..."]:
    """Run a session once and return one output.

    Raises:
        UsageError: onnxruntime refuses the arrays.
        ModelNotCoveredError: It takes longer than the limit, or more memory than there is.
    """
    with _errors_of_runs(feed), limited_run() as options:
        return np.asarray(session.run([output], feed, options)[0])


def run_outputs(
    session: Any, outputs: Sequence[str], feed: Mapping[str, Shaped[np.ndarray, "..."]]
) -> list[Shaped[np.ndarray, "..."]]:
    """Run a session once and return outputs; errors as `run_session`."""
    with _errors_of_runs(feed), limited_run() as options:
        return [np.asarray(value) for value in session.run(list(outputs), feed, options)]


def run_segment(
    session: Any, outputs: Sequence[str], feed: Mapping[str, Shaped[np.ndarray, "..."]]
) -> list[Shaped[np.ndarray, "..."]]:
    """Run a session once and return outputs without copying them; errors as `run_session`."""
    with _errors_of_runs(feed), limited_run() as options:
        values = {
            name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array).reshape(array.shape))
            for name, array in feed.items()
        }
        return [
            _shared(value) for value in session.run_with_ort_values(list(outputs), values, options)
        ]


@contextmanager
def _errors_of_runs(feed: Mapping[str, Shaped[np.ndarray, "..."]]) -> Iterator[None]:
    """Turn what onnxruntime raises into errors of this package."""
    try:
        yield
    except CimrobustError:
        raise
    except Exception as err:
        if "bfc_arena" in str(err) or "bad_alloc" in str(err):
            raise ModelNotCoveredError(
                f"model must run in the memory that there is, got: {printable(err)} (session); run"
                " fewer samples at once, or a smaller model"
            ) from err
        shapes = ", ".join(
            f"{name} {array.dtype}{list(array.shape)}" for name, array in feed.items()
        )
        raise UsageError(
            f"samples must fit the model, got {shapes}: {printable(err)} (data set); correct the"
            " data description"
        ) from err


def _shared(value: Any) -> Shaped[np.ndarray, "..."]:
    """Return the array behind an OrtValue, the same memory where its element type allows."""
    try:
        return np.from_dlpack(value)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
        return np.array(value.numpy())
