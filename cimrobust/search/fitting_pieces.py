"""Pieces of the attack set, made smaller where they do not fit into the memory there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from cimrobust.available_memory import fitting_workers, is_about_memory, planned_memory
from cimrobust.errors import MemoryShortError
from cimrobust.twin.ops.twin_step import TwinRunError

ResultT = TypeVar("ResultT")


class FittingPieces:
    """The pieces that the attack set is cut into.

    Attributes:
        pieces: Which samples each piece has, in order.
        at_once: Runs of the network that share a pass.
        workers: Threads that compute pieces; one until more are planned.
    """

    def __init__(
        self,
        num_samples: int,
        size: int,
        *,
        unit: int,
        at_once: int,
        device: torch.device,
        sample_bytes: int,
    ) -> None:
        """Cut.

        Args:
            num_samples: Samples of the attack set.
            size: Most samples of a piece.
            unit: Samples of one run of the network.
            at_once: Runs that share a pass.
            device: Where pieces are computed.
            sample_bytes: Bytes of a sample's activations; 0: not known.
        """
        self.pieces = [
            slice(start, min(start + size, num_samples)) for start in range(0, num_samples, size)
        ]
        self.at_once = at_once
        self.workers = 1
        self._unit = unit
        self._device = device
        self._sample_bytes = sample_bytes
        self._were_halved = 0

    @property
    def largest(self) -> int:
        """Samples of the largest piece."""
        return max(piece.stop - piece.start for piece in self.pieces)

    @property
    def memory_note(self) -> str:
        """What is to be known where pieces did not fit into the memory; empty where they did."""
        if not self._were_halved:
            return ""
        return (
            f"The usual pieces of the attack set did not fit into the memory of {self._device}:"
            f" gradients were added up over pieces of at most {self.largest} samples, which rounds"
            " their last bits otherwise than where there is more."
        )

    def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Return what work on all pieces gives; where they do not fit, on smaller ones.

        Raises:
            MemoryShortError: Not even one run of the network fits.
        """
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError, TwinRunError) as err:
                if not is_about_memory(err):
                    raise
                reason = str(err)
            # Out of the handler, which holds on to all that did not fit.
            self.halve(reason)

    def plan(self, most: int, *, a_thread: int, at_all: int) -> None:
        """Work with fewer threads where pieces do not fit at once, then with smaller pieces.

        Args:
            most: Threads there may be.
            a_thread: Bytes that every thread needs beside the activations.
            at_all: Bytes that all threads share.
        """

        def needed() -> int:
            return a_thread + self.largest * self._sample_bytes

        def left() -> int:
            return planned_memory() - at_all

        while self._sample_bytes and needed() > left():
            try:
                self.halve(
                    f"{needed() / 1e9:.2g} GB are needed, {left() / 1e9:.2g} GB may be taken"
                )
            except MemoryShortError:
                break  # What is needed is an estimate: one run at a time is tried all the same.
        self.workers = fitting_workers(most, needed(), beside=at_all)

    def halve(self, reason: str) -> None:
        """Cut every piece in two, each of whole runs.

        Args:
            reason: Why, for the error.

        Raises:
            MemoryShortError: Every piece is one run already.
        """
        smaller = [part for piece in self.pieces for part in halves(piece, self._unit)]
        if len(smaller) == len(self.pieces):
            raise MemoryShortError(
                "memory must hold one run of the network with gradients, got less on"
                f" {self._device}: {reason} (search); free memory, or use another --device-type"
            )
        self.pieces, self.at_once = smaller, max(self.at_once // 2, 1)
        self._were_halved += 1
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def halves(piece: slice, unit: int) -> list[slice]:
    """Return the two halves of a piece, each of whole runs; itself where it is one run."""
    runs = -(-(piece.stop - piece.start) // unit)
    middle = piece.start + unit * (runs // 2)
    return [piece] if runs < 2 else [slice(piece.start, middle), slice(middle, piece.stop)]
