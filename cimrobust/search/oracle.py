"""Gradients of a loss with respect to all stored weights, over the whole attack set in every pass.

The gradients of the pieces that the attack set is cut into are added up in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from cimrobust.engine.parallel import check_stopped, map_ordered
from cimrobust.engine.torch_device import repeatable_convolutions
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.search.sampled_twin import SampledTwin
from cimrobust.search.torch_patterns import tensors_of

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.box import Box
    from cimrobust.search.losses import Loss


@dataclass(frozen=True)
class Evaluation:
    """One pass at one pattern.

    Attributes:
        loss: Mean loss, in the scale the pass was given.
        scale: Scale that this pass's terms give for the next.
        correct: Which decisions are correct, bool [decisions]; for regression none.
        margins: Margin of every decision, positive where it is correct, [decisions]; for regression
            the errors.
        gradients: Gradient of the summed loss by initializer.
    """

    loss: float
    scale: float
    correct: Bool[Tensor, "decisions"]
    margins: Float[Tensor, "decisions"]
    gradients: Mapping[str, Float[Tensor, "..."]]


@dataclass(frozen=True)
class _Part:
    loss: float
    terms: Float[Tensor, "decisions"]
    correct: Bool[Tensor, "decisions"]
    margins: Float[Tensor, "decisions"]
    gradients: Mapping[str, Float[Tensor, "..."]]


class GradientOracle(SampledTwin):
    """The torch twin on the attack set, with gradients."""

    def on(
        self, runtime: Runtime, attack_set: Int64[np.ndarray, "samples"], box: Box | None = None
    ) -> GradientOracle:
        """Return the gradients of the same network on other samples.

        Args:
            runtime: The network with the samples.
            attack_set: Indices of those to attack.
            box: Its nominal weights are those that deviations are added to; None: as here.
        """
        return GradientOracle(
            self._twin,
            runtime,
            self.readout,
            attack_set,
            self._box if box is None else box,
            workers=self._cut.workers,
            device=self.device,
            sample_bytes=self._sample_bytes,
            crossbars=self._crossbars,
        )

    def evaluate(
        self, pattern: Mapping[str, Float[Tensor, "..."]], loss: Loss, scale: float
    ) -> Evaluation:
        """Return loss and gradients at a pattern: one pass."""
        return self._cut.run(partial(self._evaluate, pattern, loss, scale))

    def _evaluate(
        self, pattern: Mapping[str, Float[Tensor, "..."]], loss: Loss, scale: float
    ) -> Evaluation:
        weights = {name: nominal + pattern[name] for name, nominal in self._nominal.items()}
        with one_torch_thread(), repeatable_convolutions(self.device):
            work = partial(self._part, weights, loss, scale)
            total: dict[str, Float[Tensor, "..."]] = {}
            value, parts = 0.0, []
            for part in map_ordered(
                work, self._cut.pieces, workers=min(self._cut.workers, len(self._cut.pieces))
            ):
                value += part.loss
                for name, gradient in part.gradients.items():
                    total[name] = total[name].add_(gradient) if name in total else gradient
                # Without its gradients, which are as large as the network.
                parts.append(replace(part, gradients={}))
        return Evaluation(
            loss=value / self.labels.numel(),
            scale=loss.scale_of(torch.cat([part.terms for part in parts])),
            correct=torch.cat([part.correct for part in parts]),
            margins=torch.cat([part.margins for part in parts]),
            gradients={
                name: torch.nan_to_num(total.pop(name), nan=0.0, posinf=0.0, neginf=0.0)
                for name in tuple(total)
            },
        )

    def margin_gradients(
        self, weights: Mapping[str, Float32[np.ndarray, "..."]], factors: Float[Tensor, "decisions"]
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the gradient of a weighted sum of the margins with respect to every weight.

        One pass.

        Args:
            weights: Every mapped initializer.
            factors: Of every decision, [decisions].
        """
        factors = factors.to(self.device)

        def weighted(
            logits: Float[Tensor, "decisions classes"], where: slice
        ) -> Float[Tensor, "decisions"]:
            return factors[where] * torch.nan_to_num(
                self._margin(logits, self.labels[where]), nan=0.0, posinf=0.0, neginf=0.0
            )

        return self._pull_back(tensors_of(weights, self.device), weighted, needed=factors != 0)

    def logit_gradients(
        self,
        pattern: Mapping[str, Float[Tensor, "..."]],
        function: Callable[[Float[Tensor, "decisions classes"], slice], Float[Tensor, "..."]],
    ) -> dict[str, Float[Tensor, "..."]]:
        """Return the gradient of the sum of a function of the logits at a pattern, by initializer.

        One pass.

        Args:
            pattern: Deviations.
            function: Given logits [decisions, classes] and which of all decisions they are, returns
                values to add up.
        """
        return self._pull_back(
            {name: nominal + pattern[name] for name, nominal in self._nominal.items()}, function
        )

    def _pull_back(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        function: Callable[[Float[Tensor, "decisions classes"], slice], Float[Tensor, "..."]],
        *,
        needed: Bool[Tensor, "decisions"] | None = None,
    ) -> dict[str, Float[Tensor, "..."]]:
        """Add up the gradients of all pieces; those without a needed decision are left out."""
        return self._cut.run(partial(self._added_up, weights, function, needed))

    def _added_up(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        function: Callable[[Float[Tensor, "decisions classes"], slice], Float[Tensor, "..."]],
        needed: Bool[Tensor, "decisions"] | None,
    ) -> dict[str, Float[Tensor, "..."]]:
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        pieces = [
            piece
            for piece in self._cut.pieces
            if needed is None or bool(needed[self.decisions.positions(piece)].any())
        ]
        with one_torch_thread(), repeatable_convolutions(self.device):
            work = partial(self._pulled, weights, function)
            for gradients in map_ordered(
                work, pieces, workers=max(min(self._cut.workers, len(pieces)), 1)
            ):
                for name, gradient in zip(total, gradients, strict=True):
                    total[name] += (
                        0.0
                        if gradient is None
                        else torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
                    )
        return total

    def _pulled(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        function: Callable[[Float[Tensor, "decisions classes"], slice], Float[Tensor, "..."]],
        piece: slice,
    ) -> tuple[Float[Tensor, "..."] | None, ...]:
        check_stopped()
        torch.set_num_threads(1)
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
        with torch.enable_grad():
            value = function(self._logits(leaves, piece), self.decisions.positions(piece)).sum()
            return torch.autograd.grad(value, list(leaves.values()), allow_unused=True)

    def _part(
        self, weights: Mapping[str, Float[Tensor, "..."]], loss: Loss, scale: float, piece: slice
    ) -> _Part:
        check_stopped()
        torch.set_num_threads(1)  # the setting belongs to a thread, and this may be a new one
        leaves = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
        with torch.enable_grad():
            logits = self._logits(leaves, piece)
            labels = self.labels[self.decisions.positions(piece)]
            terms = loss.terms(logits, labels)
            total = torch.nan_to_num(loss.loss(terms, scale), nan=0.0, posinf=0.0, neginf=0.0).sum()
            grads = (
                torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
                if total.requires_grad
                else (None,) * len(leaves)
            )
        held = logits.detach()
        return _Part(
            loss=float(total.detach()),
            terms=terms.detach(),
            correct=self.correct(held, labels),
            margins=self._margin(held, labels),
            gradients={
                name: torch.zeros_like(leaf) if grad is None else grad
                for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
            },
        )
