"""The torch twin on the attack set: logits and margins, without gradients.

Results do not depend on the number of workers: the attack set is cut into pieces by the network
and the set alone, each piece is computed by one thread (torch sums in another order when it may use
more), and the pieces are put together in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, Real, Shaped
from torch import Tensor

from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.torch_device import repeatable_convolutions
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.engine.twin_runs import run_outputs, runs_at_once
from cimrobust.search.attack_decisions import AttackDecisions
from cimrobust.search.attack_pieces import most_runs, piece_size
from cimrobust.search.fitting_pieces import FittingPieces
from cimrobust.search.losses import margins
from cimrobust.search.torch_patterns import shared_tensors, tensors_of
from cimrobust.twin.ops.surrogate import COARSE, HARD

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.straight_crossbars import StraightCrossbars
    from cimrobust.mapping.box import Box
    from cimrobust.search.readout import Readout
    from cimrobust.twin.ops.outside import OutsideNode
    from cimrobust.twin.to_torch import Twin

# Bytes a stored weight that a piece needs beside its activations: a copy, its gradient, and their
# sum.
_WEIGHT_BYTES = 12


class SampledTwin:
    """The torch twin on the attack set.

    Attributes:
        readout: How logits are read from it.
        decisions: The decisions of the attack set that are counted.
        labels: Their labels (regression: targets).
        device: Where the twin computes; all tensors that go in and come out are there.
    """

    def __init__(
        self,
        twin: Twin,
        runtime: Runtime,
        readout: Readout,
        attack_set: Int64[np.ndarray, "samples"],
        box: Box,
        *,
        workers: int,
        device: torch.device,
        sample_bytes: int = 0,
        crossbars: StraightCrossbars | None = None,
    ) -> None:
        self.readout = readout
        self.device = device
        self._twin = twin.to(device)
        self._crossbars = crossbars
        self._follows_chip = runtime.converters is None or (
            crossbars is not None and crossbars.is_whole
        )
        self._nominal = shared_tensors(box.nominal, device)
        self._box = box
        self._feeding = runtime.engine.feeding
        dataset, task = runtime.dataset, runtime.task
        self._inputs = tensors_of(
            {name: array[attack_set] for name, array in dataset.inputs.items()}, device
        )
        self._constants = tensors_of(dataset.constants, device)
        self._is_regression = task.is_regression
        self.decisions = AttackDecisions.of(task, attack_set, device)
        self.labels = self.decisions.labels
        size = piece_size(self._feeding, device)
        self._cut = FittingPieces(
            len(attack_set),
            size,
            unit=self._feeding.size if self._feeding.mode == "fixed" else 1,
            at_once=runs_at_once(
                self._twin,
                readout.tensor,
                self._inputs,
                self._constants,
                feeding=self._feeding,
                most=most_runs(runtime, size),
            ),
            device=device,
            sample_bytes=sample_bytes,
        )
        self._sample_bytes = sample_bytes
        if device.type == "cpu":
            weights = sum(tensor.numel() for tensor in self._nominal.values())
            self._cut.plan(
                workers,
                a_thread=_WEIGHT_BYTES * weights,
                at_all=0 if crossbars is None else crossbars.num_bytes,
            )

    @property
    def num_samples(self) -> int:
        """Samples of the attack set."""
        return self._cut.pieces[-1].stop

    @property
    def operators(self) -> frozenset[str]:
        """Operators between the inputs and what is read, constant parts left out."""
        return frozenset(step.node.op for step in self._twin.steps_to(self.readout.tensor))

    @property
    def outside(self) -> tuple[OutsideNode, ...]:
        """Nodes that onnxruntime runs inside the twin."""
        return self._twin.outside

    @property
    def follows_chip(self) -> bool:
        """Whether its decisions are the deployed network's, but for the rounding of sums.

        With converters, where their bit lines are in it and reads have no noise.
        """
        return self._follows_chip

    @contextmanager
    def softened(self) -> Iterator[None]:
        """Leave rounding and quantisers out for a while, and let saturated activations leak."""
        before = self._twin.softened
        self._twin.softened = True
        try:
            yield
        finally:
            self._twin.softened = before

    @contextmanager
    def raw_gradients(self) -> Iterator[None]:
        """Switch straight-through gradients off for a while."""
        before = self._twin.straight_through
        self._twin.straight_through = False
        try:
            yield
        finally:
            self._twin.straight_through = before

    @property
    def has_hard_steps(self) -> bool:
        """Whether `smooth_hard_steps` found any."""
        return self._twin.width is not None

    @contextmanager
    def widened(self, width: float) -> Iterator[None]:
        """Take gradients of hard steps from Gaussians of another width for a while.

        Nothing changes where the network has none.
        """
        before = self._twin.width
        self._twin.width = None if before is None else width
        try:
            yield
        finally:
            self._twin.width = before

    def smooth_hard_steps(self, width: float) -> None:
        """Take gradients of hard steps from Gaussians of a width from now on.

        Where gradients pass through a Sign, a comparison, or rounding of few levels: found in one
        run of the first samples with gradients, at the nominal weights.
        """
        if not HARD & self.operators:
            return
        weights = {
            name: nominal.detach().requires_grad_() for name, nominal in self._nominal.items()
        }
        size = self._feeding.size if self._feeding.mode == "fixed" else 1

        def run() -> Float[Tensor, "decisions classes"]:
            first = self._cut.pieces[0] if self._feeding.mode == "free" else slice(0, size)
            return self._plain_logits(weights, first)

        with self._twin.listing_steps() as steps, one_torch_thread(), torch.enable_grad():
            self._cut.run(run)
        self._twin.width = width if any(spread < COARSE for spread in steps) else None

    @property
    def run_together(self) -> int:
        """Samples of the first run; what a network quantises at run time depends on all of them."""
        return int(self._cut.pieces[0].stop)

    @property
    def memory_note(self) -> str:
        """What is to be known where pieces did not fit into the memory; empty where they did."""
        return self._cut.memory_note

    def logits(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]], *, num_samples: int | None = None
    ) -> Float[Tensor, "decisions classes"]:
        """Return the logits of the first samples, without gradients, [decisions, classes].

        Of the decisions that are counted, see `readout.decisive`.
        """
        logits = self._forward(partial(self._logits, tensors_of(weights, self.device)), num_samples)
        if num_samples is None:
            return logits
        return logits[self.decisions.positions(slice(0, min(num_samples, self.num_samples)))]

    def plain_logits(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]], *, num_samples: int
    ) -> Float[Tensor, "decisions classes"]:
        """Return the logits of all decisions of the first samples, [decisions, classes].

        As the network gives them, without gradients.
        """
        logits = self._forward(
            partial(self._plain_logits, tensors_of(weights, self.device)), num_samples
        )
        return logits[: num_samples * self.decisions.counted.shape[1]]

    def _forward(
        self, run: Callable[[slice], Float[Tensor, "_decisions classes"]], num_samples: int | None
    ) -> Float[Tensor, "decisions classes"]:
        """Return what the pieces of the first samples give, without gradients."""

        def joined() -> Float[Tensor, "decisions classes"]:
            pieces = [
                piece
                for piece in self._cut.pieces
                if num_samples is None or piece.start < num_samples
            ]
            with one_torch_thread(), repeatable_convolutions(self.device), torch.no_grad():
                return torch.cat(
                    list(map_ordered(run, pieces, workers=min(self._cut.workers, len(pieces))))
                )

        return self._cut.run(joined)

    def promising(
        self,
        pattern: Mapping[str, Float[Tensor, "..."]],
        *,
        order: Int64[np.ndarray, "samples"],
        most_correct: float,
    ) -> tuple[tuple[int, Float[Tensor, "decisions"]] | None, int]:
        """Return correct decisions and margins at a pattern, and how many samples were run.

        None in place of both as soon as too many decisions are correct.

        Args:
            pattern: Deviations.
            order: All samples, those first that are most likely correct: the fewer are needed to
                see that the pattern cannot win.
            most_correct: Correct decisions that may not be exceeded.

        Returns:
            Correct decisions and the margins of all [decisions], in the order of the attack set,
            where at most so many are correct.
        """
        return self._cut.run(
            partial(self._promising, pattern, order=order, most_correct=most_correct)
        )

    def _promising(
        self,
        pattern: Mapping[str, Float[Tensor, "..."]],
        *,
        order: Int64[np.ndarray, "samples"],
        most_correct: float,
    ) -> tuple[tuple[int, Float[Tensor, "decisions"]] | None, int]:
        weights = {name: nominal + pattern[name] for name, nominal in self._nominal.items()}
        correct, parts = 0, []
        with one_torch_thread(), repeatable_convolutions(self.device), torch.no_grad():
            work = partial(self._logits, weights, order=order)
            for piece, logits in zip(
                self._cut.pieces,
                map_ordered(
                    work, self._cut.pieces, workers=min(self._cut.workers, len(self._cut.pieces))
                ),
                strict=True,
            ):
                chosen = self.labels[self.decisions.of_samples(order[piece])]
                correct += int(self.correct(logits, chosen).sum())
                if correct > most_correct:
                    return None, piece.stop
                parts.append(margins(logits, chosen))
        back = torch.argsort(self.decisions.of_samples(order))
        return (correct, torch.cat(parts)[back]), self.num_samples

    def margins(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]]
    ) -> Float[Tensor, "decisions"]:
        """Return the margin of every decision, positive where it is correct.

        For regression the error; without gradients, [decisions].
        """
        return self._margin(self.logits(weights), self.labels)

    def _margin(
        self, logits: Float[Tensor, "decisions classes"], labels: Real[Tensor, "decisions"]
    ) -> Float[Tensor, "decisions"]:
        return logits[:, 0] - labels if self._is_regression else margins(logits, labels)

    def correct(
        self, logits: Float[Tensor, "decisions classes"], labels: Real[Tensor, "decisions"]
    ) -> Bool[Tensor, "decisions"]:
        """Return which decisions are correct, bool [decisions]; for a regression none."""
        if self._is_regression:
            return torch.zeros(len(logits), dtype=torch.bool, device=self.device)
        return (logits.argmax(dim=1) == labels) & torch.isfinite(logits).all(dim=1)

    def _logits(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        piece: slice,
        *,
        order: Int64[np.ndarray, "samples"] | None = None,
    ) -> Float[Tensor, "decisions classes"]:
        logits = self._plain_logits(weights, piece, order=order)
        return self.decisions.read(logits, piece if order is None else order[piece])

    def _plain_logits(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        piece: slice,
        *,
        order: Int64[np.ndarray, "samples"] | None = None,
    ) -> Float[Tensor, "decisions classes"]:
        torch.set_num_threads(1)
        with nullcontext() if self._crossbars is None else self._crossbars.programmed(weights):
            return self.readout.logits(self._output(weights, piece, order))

    def _output(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        piece: slice,
        order: Int64[np.ndarray, "samples"] | None,
    ) -> Shaped[Tensor, "piece ..."]:
        """Return the tensor read, samples first, in runs of as many samples as the network takes.

        Samples in an order of their own if given.
        """
        size, tensor = self._feeding.size, self.readout.tensor
        if self._feeding.mode != "free":
            # The last run of a fixed batch is filled up with the first samples.
            places = (
                np.arange(piece.start, piece.start + -(-(piece.stop - piece.start) // size) * size)
                % self.num_samples
            )
            taken = torch.from_numpy(places if order is None else order[places]).reshape(-1, size)
            joined = run_outputs(
                self._twin,
                tensor,
                weights,
                self._inputs,
                self._constants,
                feeding=self._feeding,
                taken=taken,
                at_once=self._cut.at_once,
            )
            return joined[: piece.stop - piece.start]
        chosen = slice(piece.start, piece.stop) if order is None else order[piece]
        feed = {name: array[chosen] for name, array in self._inputs.items()}
        output: Shaped[Tensor, "samples ..."] = self._twin(
            {**feed, **self._constants}, weights, [tensor]
        )[tensor]
        return output
