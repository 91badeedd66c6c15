"""The network being trained.

The torch twin as a function of stored weights and digital parameters, batch by batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from cimrobust.certify.plan import Plan, make_plan
from cimrobust.certify.refusal import NotBoundedError
from cimrobust.engine.subject import Subject
from cimrobust.engine.twin_runs import run_outputs, runs_at_once
from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.write_back import require_stored
from cimrobust.run import Run
from cimrobust.search.gradients import open_gradients
from cimrobust.search.torch_patterns import tensor_of
from cimrobust.training.parameters import Parameters, Trainable, initial_parameters
from cimrobust.training.training_loss import counted_of
from cimrobust.twin.stored_tensors import stored_tensors
from cimrobust.twin.to_torch import Twin, to_torch

if TYPE_CHECKING:
    from cimrobust.engine.batches import Feeding
    from cimrobust.engine.open import Runtime
    from cimrobust.mapping.placement import Placement
    from cimrobust.search.readout import Readout

#: Samples in which the functional twin is compared with the one that the search proved right.
_CHECKED_SAMPLES = 32


@dataclass(frozen=True)
class Samples:
    """Samples on the training device.

    Attributes:
        inputs: By graph input, samples first.
        constants: Graph inputs that are the same for all.
        targets: Labels int64 [samples, decisions], targets or scores of a teacher float32, samples
            first.
    """

    inputs: Mapping[str, Shaped[Tensor, "samples ..."]]
    constants: Mapping[str, Shaped[Tensor, "..."]]
    targets: Shaped[Tensor, "samples ..."]

    @property
    def count(self) -> int:
        """Samples there are."""
        return len(self.targets)

    def part(self, indices: Int64[Tensor, "some"]) -> Samples:
        """Return some of the samples."""
        return Samples(
            {name: tensor[indices] for name, tensor in self.inputs.items()},
            self.constants,
            self.targets[indices],
        )


class TrainingNetwork:
    """The twin with everything that training may change as an argument.

    Attributes:
        twin: The twin; its weight names are stored weights, biases, normalisations and digital
            copies.
        readout: How logits are read from it.
        trainable: What may change.
        device: Where it runs.
    """

    def __init__(
        self,
        twin: Twin,
        readout: Readout,
        feeding: Feeding,
        trainable: Trainable,
        device: torch.device,
    ) -> None:
        self.twin = twin.to(device)
        self.twin.straight_through = True
        self.readout = readout
        self.trainable = trainable
        self.device = device
        self._feeding = feeding
        self._joins: bool | None = None
        self._fixed = {name: twin.weights[name] for name in trainable.fixed}
        for devices in trainable.devices.values():
            devices.to(device)

    @cached_property
    def plan(self) -> Plan:
        """The network as bounded operators.

        Raises:
            ModelNotCoveredError: Operators have no bound; names all of them. Or samples cannot be
                run together.
        """
        if self._feeding.mode != "free":
            raise ModelNotCoveredError(
                "training on the interval bound needs a network that takes any number of samples,"
                f" got a {self._feeding.mode} batch; use another method"
            )
        exact = [name for name in self.twin.weight_names if name not in self.trainable.devices]
        try:
            return make_plan(self.twin, self.readout.tensor, known=exact)
        except NotBoundedError as err:
            raise ModelNotCoveredError(
                "training on the interval bound needs a bound of every operator, got:"
                f" {err.refusal.reason}; use another method"
            ) from err

    def digital(self, parameters: Parameters) -> dict[str, Float32[Tensor, "..."]]:
        """Return what the twin takes beside stored weights.

        A digital copy of a stored weight is that weight, unquantised.
        """
        copies = {
            copy: parameters.weights[name]
            for copy, name in self.trainable.digital.copies.items()
            if name in parameters.weights
        }
        return {**parameters.digital, **parameters.buffers, **copies}

    def stored(self, parameters: Parameters) -> dict[str, Float[Tensor, "..."]]:
        """Return all stored weights, those that are not trained included."""
        return {**self._fixed, **parameters.weights}

    def logits(
        self, weights: Mapping[str, Float[Tensor, "..."]], samples: Samples
    ) -> Float[Tensor, "decisions classes"]:
        """Return the logits of samples, [decisions, classes]: of the decisions that are counted.

        Args:
            weights: Everything that `digital` and the chip say.
            samples: Any number of samples.
        """
        return self.counted(
            torch.cat(
                [
                    self.readout.logits(output)
                    for output in self._outputs(weights, samples, self.readout.tensor)
                ]
            ),
            samples,
        )

    def logits_and_tensors(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        samples: Samples,
        names: Sequence[str],
    ) -> tuple[Float[Tensor, "decisions classes"], dict[str, Float[Tensor, "..."]]]:
        """Return `logits`, and tensors of the graph by name, of one pass over all samples.

        For networks that take any number of samples, as those that have a `plan`.
        """
        found = self.twin(
            {**samples.inputs, **samples.constants}, weights, [self.readout.tensor, *names]
        )
        logits = self.readout.logits(found[self.readout.tensor])
        return self.counted(logits, samples), {name: found[name] for name in names}

    def counted(
        self, logits: Float[Tensor, "all classes"], samples: Samples
    ) -> Float[Tensor, "decisions classes"]:
        """Return the logits of the counted decisions, given those of all decisions of samples."""
        counted = counted_of(samples.targets)
        return logits if bool(counted.all()) else logits[counted.reshape(-1)]

    def _outputs(
        self, weights: Mapping[str, Float[Tensor, "..."]], samples: Samples, tensor: str
    ) -> list[Float[Tensor, "_samples ..."]]:
        """Return a tensor of the graph, samples first, run by run.

        Each run has as many samples as the network takes.
        """
        mode, size = self._feeding.mode, self._feeding.size
        if mode == "free":
            return [self.twin({**samples.inputs, **samples.constants}, weights, [tensor])[tensor]]
        taken = torch.arange(-(-samples.count // size) * size).reshape(-1, size) % samples.count
        output = run_outputs(
            self.twin,
            tensor,
            weights,
            samples.inputs,
            samples.constants,
            feeding=self._feeding,
            taken=taken,
            at_once=len(taken) if self._runs_join(samples) else 1,
        )
        return [output[: samples.count]]

    def _runs_join(self, samples: Samples) -> bool:
        """Tell whether the runs of a batch can share a pass; tried once."""
        if self._joins is None:
            tried = runs_at_once(
                self.twin,
                self.readout.tensor,
                samples.inputs,
                samples.constants,
                feeding=self._feeding,
                most=2,
            )
            self._joins = tried > 1
        return self._joins

    def statistics(
        self, weights: Mapping[str, Float[Tensor, "..."]], samples: Samples, tensors: Sequence[str]
    ) -> dict[str, tuple[Float[Tensor, "_channels"], Float[Tensor, "_channels"]]]:
        """Return mean and variance of every channel of some tensors over a batch.

        Channels are the second axis.
        """
        found = {}
        for name in tensors:
            data = torch.cat(self._outputs(weights, samples, name)).transpose(0, 1).flatten(1)
            found[name] = (data.mean(1), data.var(1, unbiased=data.shape[1] > 1))
        return found


def open_training(
    runtime: Runtime,
    placement: Placement,
    trainable: Trainable,
    *,
    update_norms: bool,
    device: torch.device,
    seed: int,
) -> tuple[TrainingNetwork, Parameters]:
    """Build a network's twin for training and prove that it decides as the deployed network.

    Args:
        runtime: The deployed network with training samples.
        placement: Where its weights are stored.
        trainable: What may change.
        update_norms: As in `initial_parameters`.
        device: Where to train.
        seed: Seed of the run.

    Raises:
        ModelNotCoveredError: There is no such twin, it does not depend on an initializer that is to
            be trained, or the file does not hold one; says why and names it.
    """
    opened = open_gradients(Subject(runtime, placement), Run(seed, effort="quick"))
    if opened.oracle is None:
        raise ModelNotCoveredError(
            f"re-training needs a differentiable twin of the model, got none: {opened.reason};"
            " there is no way round it"
        )
    readout = opened.oracle.readout
    norms = trainable.digital.normalisations
    names = [*runtime.deployed.weight_names, *trainable.biases, *trainable.digital.copies]
    names += [
        name
        for norm in norms
        if update_norms
        for name in (norm.scale, norm.shift, norm.mean, norm.variance)
    ]
    twin = to_torch(
        runtime.deployed.model,
        weight_names=names,
        outputs=[runtime.engine.output],
        outside=True,
        values=stored_tensors(runtime.deployed),
    )
    parameters = initial_parameters(
        twin, runtime, trainable, update_norms=update_norms, device=device
    )
    require_stored(
        runtime.network.path, {name: array.shape for name, array in parameters.to_numpy().items()}
    )
    network = TrainingNetwork(twin, readout, runtime.engine.feeding, trainable, device)
    expected = opened.oracle.plain_logits(
        placement.nominal(), num_samples=min(_CHECKED_SAMPLES, opened.oracle.num_samples)
    )
    _check_same(
        network, parameters, runtime, expected, opened.attack_set[: opened.oracle.run_together]
    )
    _check_reached(network, parameters, runtime)
    return network, parameters


def _first_samples(
    runtime: Runtime, indices: Int64[np.ndarray, "samples"], device: torch.device
) -> Samples:
    inputs = {
        name: tensor_of(array[indices]).to(device) for name, array in runtime.dataset.inputs.items()
    }
    constants = {
        name: tensor_of(array).to(device) for name, array in runtime.dataset.constants.items()
    }
    return Samples(inputs, constants, torch.zeros(len(indices), 1))


def _check_same(
    network: TrainingNetwork,
    parameters: Parameters,
    runtime: Runtime,
    expected: Float[Tensor, "decisions classes"],
    together: Int64[np.ndarray, "samples"],
) -> None:
    """Raise ModelNotCoveredError unless the functional twin gives the search twin's first logits.

    Both twins run with the same samples, at the quantised weights.
    """
    samples = _first_samples(runtime, together, network.device)
    with torch.no_grad():
        stored = network.stored(parameters)
        nominal = {
            name: devices.program(stored[name]).nominal
            for name, devices in network.trainable.devices.items()
        }
        logits = network.logits({**network.digital(parameters), **nominal}, samples).cpu()
    # With few samples together the search may have run fewer than are compared.
    logits, expected = logits[: len(expected)], expected[: len(logits)]
    finite = torch.isfinite(expected)
    logits, expected = (
        logits.where(finite | torch.isfinite(logits), 0.0),
        expected.where(finite, 0.0),
    )  # what is infinite in both is the same
    scale = float(expected.abs().max()) or 1.0
    worst = float((logits - expected).abs().max()) / scale
    if not worst < 1e-3:
        raise ModelNotCoveredError(
            "twin for training must give the outputs of the deployed network, got a difference of"
            f" {worst:.2g} of their range; report this model"
        )


def _check_reached(network: TrainingNetwork, parameters: Parameters, runtime: Runtime) -> None:
    """Raise ModelNotCoveredError unless a gradient reaches everything that is to be trained."""
    samples = _first_samples(
        runtime, np.arange(min(runtime.dataset.num_samples, _CHECKED_SAMPLES)), network.device
    )
    stored = network.stored(parameters)
    nominal = {
        name: devices.program(stored[name]).nominal
        for name, devices in network.trainable.devices.items()
    }
    logits = network.logits({**network.digital(parameters), **nominal}, samples)
    names = [*parameters.weights, *parameters.digital]
    reached = torch.where(torch.isfinite(logits), logits, 0.0).square().sum()
    gradients = torch.autograd.grad(reached, parameters.leaves(), allow_unused=True)
    lost = [
        repr(name)
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is None or not bool(gradient.any())
    ]
    if lost:
        raise ModelNotCoveredError(
            f"a gradient must reach every initializer to be trained, got none for {', '.join(lost)}"
            f" on {samples.count} samples; freeze them (--freeze)"
        )
