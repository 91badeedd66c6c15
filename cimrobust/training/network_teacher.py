"""The network before training as a teacher of the one that is trained.

What attacked weights lose of a network that was trained elsewhere, mostly on more data than are
given here, its own scores bring back (of attacked inputs: Goldblum et al., AAAI 2020,
arXiv 1905.09747).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cimrobust.training.taught_loss import Taught
from cimrobust.training.training_loss import counted_of

if TYPE_CHECKING:
    from cimrobust.training.parameters import Parameters
    from cimrobust.training.trained_network import Samples, TrainingNetwork
    from cimrobust.training.training_job import Job

#: Numbers of the scores of all training samples up to which they are kept, 256 MiB of them. Above,
#: those of a mini-batch are computed when it comes, which takes one forward run more.
_MOST_KEPT = 2**26
#: Samples whose scores are computed at once, before training.
_AT_ONCE = 256


class Teacher:
    """The network as it came, unquantised and without deviation."""

    def __init__(
        self,
        network: TrainingNetwork,
        parameters: Parameters,
        samples: Samples,
        *,
        share: float,
        temperature: float,
        most_kept: int = _MOST_KEPT,
    ) -> None:
        """Score all samples, if their scores are few enough to be kept.

        Args:
            network: The network.
            parameters: Where training starts; copied.
            samples: What is trained on.
            share: See `Taught`.
            temperature: See `Taught`.
            most_kept: Most numbers that are kept.
        """
        own = parameters.copy()
        stored = network.stored(own)
        programmed = {name: stored[name] for name in network.trainable.devices}
        self._network, self._samples = network, samples
        self._weights = {**network.digital(own), **programmed}
        self._share, self._temperature = share, temperature
        self._kept = self._all_logits(most_kept)

    def taught(self, indices: Int64[Tensor, "some"]) -> Taught:
        """Return what it says of some of the samples."""
        part = self._samples.part(indices)
        if self._kept is None:
            logits = self._logits(part)
        else:
            counted = counted_of(part.targets).reshape(len(indices), -1)
            logits = self._kept[indices][counted]
        return Taught(logits, self._share, self._temperature)

    @torch.no_grad()
    def _logits(self, samples: Samples) -> Float[Tensor, "decisions classes"]:
        return self._network.logits(self._weights, samples)

    def _all_logits(self, most: int) -> Float[Tensor, "samples decisions classes"] | None:
        """Return the scores of all samples; None where they are too many.

        Always in the same parts, so they are the same bits when a training is resumed.
        """
        counted = counted_of(self._samples.targets).reshape(self._samples.count, -1)
        kept = None
        for part in torch.split(torch.arange(self._samples.count), _AT_ONCE):
            part = part.to(self._network.device)
            logits = self._logits(self._samples.part(part))
            if kept is None:
                if counted.numel() * logits.shape[1] > most:
                    return None
                kept = logits.new_zeros((*counted.shape, logits.shape[1]))
            filled = kept.new_zeros((*counted[part].shape, logits.shape[1]))
            filled[counted[part]] = logits
            kept[part] = filled
        return kept


def open_teacher(job: Job, parameters: Parameters) -> Teacher | None:
    """Return the teacher of a training; None where the method has none, or nothing has labels.

    Scores of a clean model that are the targets already are taught as they are, and errors of a
    regression have no classes.

    Args:
        job: The job.
        parameters: Where it starts.
    """
    method = job.method
    if not method.taught_share or job.objective.kind != "classes":
        return None
    return Teacher(
        job.network,
        parameters,
        job.training,
        share=method.taught_share,
        temperature=method.temperature,
    )
