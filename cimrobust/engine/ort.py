"""The deployed path: a network run by onnxruntime with given programmed weights."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Shaped

from cimrobust.engine.batches import (
    Feed,
    Feeding,
    automatic_batch_size,
    cast_inputs,
    run_batches,
)
from cimrobust.engine.kernel import late_chip, program_chip
from cimrobust.engine.optimised_template import LateTemplate
from cimrobust.engine.original_file import decision_output
from cimrobust.engine.sessions import open_session, run_session
from cimrobust.errors import UsageError
from cimrobust.freed_memory import return_freed
from cimrobust.onnx_io.half_weights import to_half
from cimrobust.onnx_io.large_models import tensor_bytes
from cimrobust.onnx_io.session_template import halved_weights, session_template

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.onnx_io.network import TensorSpec

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


def _feeding_of(deployed: Deployed, batch_size: int | None) -> Feeding:
    if deployed.batch == "none":
        return Feeding("none", 1)
    if deployed.batch == "fixed":
        return Feeding("fixed", deployed.batch_size or 1)
    return Feeding("free", batch_size or automatic_batch_size(deployed))
