"""Gradients of a loss with respect to all stored weights, over the whole crafting set in every pass.

Results do not depend on the number of workers: the crafting set is cut into pieces by the network and the set alone, each piece is computed
by one thread (torch sums in another order when it may use more), and the pieces are added in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cimrobust.engine.batches import Feeding
from cimrobust.engine.open import Runtime
from cimrobust.engine.parallel import check_stopped, map_ordered
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.graph.to_torch import Twin
from cimrobust.search.box import Box, tensor_of, tensors_of
from cimrobust.search.objective import Loss, SmoothAccuracy
from cimrobust.search.readout import Readout

#: Samples of one piece; pieces are spread over workers, so a set of 500 should have a few of them.
_PIECE = 64


@dataclass(frozen=True)
class Evaluation:
    """One pass at one pattern.

    Attributes:
        value: Mean damage, in the scale the pass was given.
        scale: Scale that this pass's spreads give for the next.
        spreads: Spread of every decision, detached.
        right: Right decisions; for regression none.
        margins: Margins of every decision; for regression the errors.
        gradients: Gradient of the mean damage by initializer.
    """

    value: float
    scale: float
    spreads: Tensor
    right: Tensor
    margins: Tensor
    gradients: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Part:
    value: float
    spreads: Tensor
    right: Tensor
    margins: Tensor
    gradients: Mapping[str, Tensor]


class GradientOracle:
    """The torch twin on the crafting samples.

    Attributes:
        readout: How rows are read from it.
        labels: Labels (regression: targets) of all decisions of the crafting set.
    """

    def __init__(self, twin: Twin, runtime: Runtime, readout: Readout, crafting: np.ndarray, box: Box, *, workers: int) -> None:
        self.readout = readout
        self._twin = twin
        self._workers = workers
        self._nominal = tensors_of(box.nominal)
        self._feeding = runtime.engine.feeding
        dataset, task = runtime.dataset, runtime.task
        self._inputs = {name: tensor_of(array[crafting]) for name, array in dataset.inputs.items()}
        self._constants = {name: tensor_of(array) for name, array in dataset.constants.items()}
        chosen = task.labels[crafting]
        self._per_sample = int(np.prod(chosen.shape[1:], dtype=np.int64))
        kind = torch.float32 if task.is_regression else torch.int64
        self.labels = torch.from_numpy(chosen.reshape(-1)).to(kind)
        self._is_regression = task.is_regression
        size = _piece_size(self._feeding)
        self._pieces = [slice(start, min(start + size, len(crafting))) for start in range(0, len(crafting), size)]

    @property
    def num_samples(self) -> int:
        """Crafting samples."""
        return self._pieces[-1].stop

    @contextmanager
    def raw_gradients(self) -> Iterator[None]:
        """Switch straight-through gradients off for a while."""
        before = self._twin.straight_through
        self._twin.straight_through = False
        try:
            yield
        finally:
            self._twin.straight_through = before

    def rows(self, weights: Mapping[str, np.ndarray], *, num_samples: int | None = None) -> Tensor:
        """Return the rows of the first samples, without gradients, [decisions, classes]."""
        held = tensors_of(weights)
        pieces = [piece for piece in self._pieces if num_samples is None or piece.start < num_samples]
        with one_torch_thread(), torch.no_grad():
            parts = list(map_ordered(partial(self._rows, held), pieces, workers=min(self._workers, len(pieces))))
        rows = torch.cat(parts)
        return rows if num_samples is None else rows[: num_samples * self._per_sample]

    def evaluate(self, pattern: Mapping[str, Tensor], loss: Loss, scale: float) -> Evaluation:
        """Return damage and gradients at a pattern: one pass."""
        weights = {name: nominal + pattern[name] for name, nominal in self._nominal.items()}
        with one_torch_thread():
            work = partial(self._part, weights, loss, scale)
            total: dict[str, Tensor] = {}
            value, parts = 0.0, []
            for part in map_ordered(work, self._pieces, workers=min(self._workers, len(self._pieces))):
                value += part.value
                for name, gradient in part.gradients.items():
                    total[name] = total[name].add_(gradient) if name in total else gradient
                parts.append(part)
        spreads = torch.cat([part.spreads for part in parts])
        return Evaluation(
            value=value / self.labels.numel(),
            scale=loss.scale_of(spreads),
            spreads=spreads,
            right=torch.cat([part.right for part in parts]),
            margins=torch.cat([part.margins for part in parts]),
            gradients={name: torch.nan_to_num(total[name], nan=0.0, posinf=0.0, neginf=0.0) for name in total},
        )

    def pull_back(self, pattern: Mapping[str, Tensor], function: Callable[[Tensor, slice], Tensor]) -> dict[str, Tensor]:
        """Return the gradient of the sum of a function of the rows at a pattern, by initializer; the cost of one pass.

        Args:
            pattern: Deviations.
            function: Given rows [decisions, classes] and which of all decisions they are, returns values to add up.
        """
        weights = {name: nominal + pattern[name] for name, nominal in self._nominal.items()}
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        with one_torch_thread():
            work = partial(self._pulled, weights, function)
            for gradients in map_ordered(work, self._pieces, workers=min(self._workers, len(self._pieces))):
                for name, gradient in zip(total, gradients, strict=True):
                    total[name] += 0.0 if gradient is None else torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        return total

    def _pulled(
        self, weights: Mapping[str, Tensor], function: Callable[[Tensor, slice], Tensor], piece: slice
    ) -> tuple[Tensor | None, ...]:
        check_stopped()
        torch.set_num_threads(1)
        leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in weights.items()}
        positions = slice(piece.start * self._per_sample, piece.stop * self._per_sample)
        with torch.enable_grad():
            value = function(self._rows(leaves, piece), positions).sum()
            return torch.autograd.grad(value, list(leaves.values()), allow_unused=True)

    def _part(self, weights: Mapping[str, Tensor], loss: Loss, scale: float, piece: slice) -> _Part:
        check_stopped()
        torch.set_num_threads(1)  # the setting belongs to a thread, and this may be a new one
        leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in weights.items()}
        with torch.enable_grad():
            rows = self._rows(leaves, piece)
            positions = slice(piece.start * self._per_sample, piece.stop * self._per_sample)
            labels = self.labels[positions]
            spreads = loss.spread(rows, labels)
            damage = torch.nan_to_num(loss.damage(spreads, scale), nan=0.0, posinf=0.0, neginf=0.0).sum()
            grads = torch.autograd.grad(damage, list(leaves.values()), allow_unused=True) if damage.requires_grad else (None,) * len(leaves)
        held = rows.detach()
        return _Part(
            value=float(damage.detach()),
            spreads=spreads.detach(),
            right=self._right(held, labels),
            margins=held[:, 0] - labels if self._is_regression else SmoothAccuracy().spread(held, labels),
            gradients={
                name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
            },
        )

    def _right(self, rows: Tensor, labels: Tensor) -> Tensor:
        if self._is_regression:
            return torch.zeros(len(rows), dtype=torch.bool)
        return (rows.argmax(dim=1) == labels) & torch.isfinite(rows).all(dim=1)

    def _rows(self, weights: Mapping[str, Tensor], piece: slice) -> Tensor:
        torch.set_num_threads(1)
        return torch.cat([self.readout.rows(output) for output in self._outputs(weights, piece)])

    def _outputs(self, weights: Mapping[str, Tensor], piece: slice) -> Iterator[Tensor]:
        """Yield the tensor read, samples first, in runs of as many samples as the network takes."""
        mode, size = self._feeding.mode, self._feeding.size
        step = piece.stop - piece.start if mode == "free" else size
        for start in range(piece.start, piece.stop, step):
            stop = min(start + step, piece.stop)
            indices = np.arange(start, start + step) % self.num_samples if mode == "fixed" else np.arange(start, stop)
            feed = {name: tensor[start] if mode == "none" else tensor[indices] for name, tensor in self._inputs.items()}
            output = self._twin({**feed, **self._constants}, weights, [self.readout.tensor])[self.readout.tensor]
            if mode == "none" or (mode == "fixed" and size == 1 and output.shape[:1] != (1,)):
                output = output[None]
            yield output[: stop - start]


def _piece_size(feeding: Feeding) -> int:
    """Return the samples of one piece: whole runs, and small enough for a core's cache where the engine chose to be careful."""
    if feeding.mode == "fixed":
        return max(_PIECE // feeding.size, 1) * feeding.size
    return _PIECE if feeding.mode == "none" else min(_PIECE, feeding.size)
