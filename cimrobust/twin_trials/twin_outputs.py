"""The decision output of chips, computed by the torch twin on a device."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from cimrobust.available_memory import is_about_memory
from cimrobust.engine.torch_device import open_device, repeatable_convolutions
from cimrobust.engine.twin_runs import run_outputs, runs_at_once
from cimrobust.errors import CimrobustError, MemoryShortError, UsageError
from cimrobust.search.attack_pieces import most_runs, piece_size
from cimrobust.search.fitting_pieces import halves
from cimrobust.search.torch_patterns import array_of, tensors_of
from cimrobust.twin.ops.twin_step import TwinRunError
from cimrobust.twin.stored_tensors import stored_tensors
from cimrobust.twin.to_torch import Twin, to_torch
from cimrobust.twin_trials.near_ties import largest_difference, largest_score

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.subject import Subject
    from cimrobust.run import Run

# Largest difference of a score of two engines at the quantised weights, of the largest score:
# float32 sums of a deep network stay an order of magnitude below.
_MOST_DIFFERENT = 1e-3


@dataclass(frozen=True)
class _Cut:
    """The pieces that samples are run in, and how many runs of a fixed batch share a pass."""

    pieces: tuple[slice, ...]
    at_once: int


class TwinOutputs:
    """Runs chips on all samples; safe to use from many threads.

    Memory that does not hold a piece of the samples gets smaller ones.

    Attributes:
        device: Where it computes.
    """

    def __init__(self, twin: Twin, runtime: Runtime, device: torch.device) -> None:
        self.device = device
        self._twin = twin.to(device)
        self._output = runtime.engine.output
        self._shape = runtime.clean_output.shape
        self._feeding = runtime.engine.feeding
        self._inputs = _held(runtime.dataset.inputs, device)
        self._constants = tensors_of(runtime.dataset.constants, device)
        size = piece_size(self._feeding, device)
        count = runtime.dataset.num_samples
        self._cut = _Cut(
            tuple(slice(start, min(start + size, count)) for start in range(0, count, size)),
            self._runs_at_once(most_runs(runtime, size)),
        )
        self._cutting = Lock()
        # An accelerator takes one chip at a time: two would need twice the memory.
        self._turn: AbstractContextManager[object] = (
            nullcontext() if device.type == "cpu" else Lock()
        )

    @property
    def where(self) -> str:
        """The device as results name it."""
        if self.device.type != "cuda":
            return self.device.type
        return f"{self.device.type} ({torch.cuda.get_device_name(self.device)})"

    @property
    def largest_piece(self) -> int:
        """Samples of the largest piece."""
        return max(int(piece.stop - piece.start) for piece in self._cut.pieces)

    def of(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> Shaped[np.ndarray, "samples ..."]:
        """Return the decision output of all samples on one chip, samples first.

        Args:
            weights: Every mapped initializer, float32, own shape.

        Raises:
            MemoryShortError: Not even one run of the network fits.
        """
        with self._turn:
            while True:
                cut = self._cut
                try:
                    return self._run(weights, cut)
                except (MemoryError, RuntimeError, TwinRunError) as err:
                    if not is_about_memory(err):
                        raise
                    reason = str(err)
                # Out of the handler, which holds on to all that did not fit.
                self._halve(cut, reason)

    def _run(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]], cut: _Cut
    ) -> Shaped[np.ndarray, "samples ..."]:
        torch.set_num_threads(1)  # of this thread: chips run side by side instead
        with torch.no_grad():
            chip = tensors_of(weights, self.device)
            parts = [array_of(self._piece(chip, piece, cut.at_once)) for piece in cut.pieces]
        return np.concatenate(parts).reshape(self._shape)

    def _piece(
        self, chip: Mapping[str, Float32[Tensor, "..."]], piece: slice, at_once: int
    ) -> Shaped[Tensor, "some ..."]:
        """Return the output of the samples of a piece, in runs of as many as the network takes."""
        size, count = self._feeding.size, len(next(iter(self._inputs.values())))
        if self._feeding.mode == "free":
            feed = {name: array[piece].to(self.device) for name, array in self._inputs.items()}
            made: Shaped[Tensor, "some ..."] = self._twin(
                {**feed, **self._constants}, chip, [self._output]
            )[self._output]
            return made
        runs = -(-(piece.stop - piece.start) // size)
        # The last run of a fixed batch is filled up with the first samples.
        taken = torch.arange(piece.start, piece.start + runs * size) % count
        feed = {name: array[taken].to(self.device) for name, array in self._inputs.items()}
        joined = run_outputs(
            self._twin,
            self._output,
            chip,
            feed,
            self._constants,
            feeding=self._feeding,
            taken=torch.arange(len(taken)).reshape(-1, size),
            at_once=at_once,
        )
        return joined[: piece.stop - piece.start]

    def _runs_at_once(self, most: int) -> int:
        first = {
            name: array[: 2 * self._feeding.size].to(self.device)
            for name, array in self._inputs.items()
        }
        return runs_at_once(
            self._twin, self._output, first, self._constants, feeding=self._feeding, most=most
        )

    def _halve(self, cut: _Cut, reason: str) -> None:
        """Make smaller pieces, unless another thread has."""
        unit = self._feeding.size if self._feeding.mode == "fixed" else 1
        with self._cutting:
            if self._cut is not cut:
                return
            smaller = [part for piece in cut.pieces for part in halves(piece, unit)]
            if len(smaller) == len(cut.pieces):
                raise MemoryShortError(
                    f"memory must hold one run of the network, got less on {self.device}: {reason}"
                    " (--trials-on device); free memory, or use --trials-on processor"
                )
            self._cut = _Cut(tuple(smaller), max(cut.at_once // 2, 1))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def open_twin_outputs(subject: Subject, run: Run) -> TwinOutputs:
    """Build the twin for drawn chips, and prove that its scores are those of the network.

    Args:
        subject: The network.
        run: How to compute; its device type says where.

    Raises:
        UsageError: The network has no twin, or one whose decisions cannot be compared with
            onnxruntime's up to rounding; says why.
        MemoryShortError: The device does not hold the network.
    """
    runtime = subject.runtime
    refusal = why_not_on_device(runtime)
    if refusal:
        raise _refused(refusal)
    device = open_device(run.device_type)
    try:
        twin = to_torch(
            runtime.at_hand.model,
            weight_names=runtime.deployed.weight_names,
            outputs=[runtime.engine.output],
            values=stored_tensors(runtime.at_hand),
        )
        nominal = subject.placement.nominal()
        with repeatable_convolutions(device):
            outputs = TwinOutputs(twin, runtime, device)
            found = outputs.of(nominal)
    except MemoryShortError:
        raise
    except (CimrobustError, RuntimeError, NotImplementedError, TypeError, ValueError) as err:
        if is_about_memory(err):
            raise MemoryShortError(
                f"memory must hold the torch twin, got less on {device}: {err} (--trials-on"
                " device); free memory, or use --trials-on processor"
            ) from err
        raise _refused(f"the torch twin does not run: {err}") from err
    expected = runtime.outputs(nominal, threads=run.workers)
    scale = largest_score(runtime.task, found)
    difference = largest_difference(runtime.task, found, expected, scale=scale)
    if difference > _MOST_DIFFERENT:
        raise _refused(
            f"its scores differ from onnxruntime's by {difference:.2g} of the largest, more than"
            f" {_MOST_DIFFERENT:g}"
        )
    return outputs


def why_not_on_device(runtime: Runtime) -> str:
    """Return why chips of a network cannot be scored by a twin; nothing where they can."""
    if runtime.converters is not None:
        return "the profile has converters, of which the twin has a part"
    if runtime.task.is_regression:
        return (
            "it is a regression: its errors differ in their last bits, so no score of one engine is"
            " that of the other"
        )
    if runtime.task.decision.read == "label":
        return "its output holds labels, not scores that tell how close a decision was"
    if runtime.checks.original.tolerance is None:
        return (
            "the network rounds activations: where two engines round to other levels, no bound of"
            " their difference is known"
        )
    return ""


def _refused(why: str) -> UsageError:
    return UsageError(
        "network must have a torch twin with onnxruntime's scores to draw chips on a device, and"
        f" {why} (--trials-on device); use --trials-on processor"
    )


def _held(
    inputs: Mapping[str, Shaped[np.ndarray, "samples ..."]], device: torch.device
) -> dict[str, Shaped[Tensor, "samples ..."]]:
    """Return the samples on the device; where it does not hold them all, on the processor."""
    try:
        return tensors_of(inputs, device)
    except (MemoryError, RuntimeError) as err:
        if device.type == "cpu" or not is_about_memory(err):
            raise
    torch.cuda.empty_cache()
    return tensors_of(inputs)
