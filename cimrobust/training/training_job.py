"""What a training works on, and one mini-batch of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cimrobust.errors import CimrobustError
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.draws import ChipSource
from cimrobust.training.training_loss import Objective
from cimrobust.training.training_protocol import Method, Step

if TYPE_CHECKING:
    from cimrobust.training.parameters import Parameters
    from cimrobust.training.taught_loss import Taught
    from cimrobust.training.trained_network import Samples, TrainingNetwork


class DivergedError(CimrobustError):
    """Losses or gradients were not finite too often."""

    exit_code = 2


@dataclass(frozen=True)
class Job:
    """What a training works on.

    Attributes:
        network: The network.
        objective: Its loss.
        training: Samples to train on.
        validation: Samples to choose the epoch by.
        source: Draws chips.
        method: The method.
        settings: The settings.
        digest: Digest of model, data, profile, method and settings; a checkpoint of another job is
            not taken over.
    """

    network: TrainingNetwork
    objective: Objective
    training: Samples
    validation: Samples
    source: ChipSource
    method: Method
    settings: TrainingSettings
    digest: str = ""


def make_step(
    job: Job,
    parameters: Parameters,
    samples: Samples,
    *,
    progress: float,
    generator: torch.Generator,
    memory: dict[str, Float[Tensor, "..."]],
    bound_share: float = 0.0,
    held: float = 1.0,
    taught: Taught | None = None,
) -> Step:
    """Return a mini-batch with the weights of the moment programmed."""
    stored = job.network.stored(parameters)
    chips = {
        name: devices.program(stored[name])
        for name, devices in job.network.trainable.devices.items()
    }

    def draw(number: int) -> dict[str, Float32[Tensor, "..."]]:
        return job.source.deviations(
            stored, job.network.trainable.devices, chips, range(number, number + 1)
        )[0]

    return Step(
        job.network,
        job.objective,
        samples,
        chips,
        job.network.digital(parameters),
        generator,
        progress,
        memory,
        draw,
        bound_share,
        held,
        taught,
    )


@torch.no_grad()
def deployed(job: Job, parameters: Parameters, mean: float) -> Parameters:
    """Return the parameters that are scored and written.

    Args:
        job: The job.
        parameters: Those that are moved.
        mean: What is added to every stored weight, in units of max|W|; 0: they are the same.
    """
    if mean == 0.0:
        return parameters
    shifted = parameters.copy()
    for name, weight in shifted.weights.items():
        weight += mean * job.network.trainable.layers[name].program(weight).reach
    return shifted
