"""A network made ready to be trained, by any method.

Samples divided, twin built, everything trainable found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32

from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.torch_device import open_device
from cimrobust.errors import UsageError
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.search.torch_patterns import tensor_of
from cimrobust.training.draws import ChipSource
from cimrobust.training.parameters import Parameters, Trainable, find_trainable
from cimrobust.training.split import Split, split_samples
from cimrobust.training.trained_network import Samples, TrainingNetwork, open_training
from cimrobust.training.training_job import Job
from cimrobust.training.training_loss import Objective, objective_of

if TYPE_CHECKING:
    from cimrobust.data.dataset import DataSet
    from cimrobust.onnx_io.network import Network
    from cimrobust.settings.training_settings import TrainingSettings
    from cimrobust.training.training_protocol import Method


@dataclass(frozen=True)
class Session:
    """A network ready to be trained.

    Attributes:
        runtime: The deployed network with all training samples.
        scan: Its layers.
        profile: Devices as training sees them.
        split: Which samples are used for what.
        network: The twin.
        parameters: Values of the file.
        objective: What is minimised.
        samples: All training samples, in the order of the file.
        notes: What training leaves out of account.
    """

    runtime: Runtime
    scan: LayerScan
    profile: DeviceProfile
    split: Split
    network: TrainingNetwork
    parameters: Parameters
    objective: Objective
    samples: Samples
    notes: tuple[str, ...]

    @property
    def trainable(self) -> Trainable:
        """What may change."""
        return self.network.trainable

    def job(self, method: Method, settings: TrainingSettings) -> Job:
        """Return the work of training with a method.

        Raises:
            UsageError: The method has no meaning for what the network computes.
        """
        if method.needs_classes and self.objective.kind == "value":
            raise UsageError(
                f"method {method.name} must be given a network that decides among classes, got a"
                " regression (--method); choose another method"
            )
        identity = {
            "model": [digest.sha256 for digest in self.runtime.network.files],
            "data": self.split.digest,
            "profile": self.profile.to_dict(),
            "method": [method.name, method.version, dict(method.knobs)],
            "settings": asdict(settings),
            "trained": [sorted(self.parameters.weights), sorted(self.parameters.digital)],
        }
        device = self.network.device
        return Job(
            network=self.network,
            objective=self.objective,
            training=self.samples.part(torch.from_numpy(self.split.training).to(device)),
            validation=self.samples.part(torch.from_numpy(self.split.validation).to(device)),
            source=ChipSource(self.scan, self.profile, settings.seed),
            method=method,
            settings=settings,
            digest=hashlib.sha256(
                json.dumps(identity, sort_keys=True, default=str).encode()
            ).hexdigest(),
        )


def open_session(
    network: Network,
    profile: DeviceProfile,
    training: DataSet,
    evaluation: DataSet,
    settings: TrainingSettings,
    *,
    freeze: Sequence[str] = (),
    drop_overlap: bool = False,
    workers: int = 1,
) -> Session:
    """Make a network ready to be trained.

    Args:
        network: The network as loaded.
        profile: Its devices.
        training: Samples to train and to validate on; without labels the clean network is the
            teacher.
        evaluation: Samples that are not to be looked at, for the check that they are others.
        settings: How to train.
        freeze: Initializers to leave as they are.
        drop_overlap: Leave training samples out that are evaluated, in place of an error.
        workers: Threads of the checks; no result depends on it.

    Raises:
        CimrobustError: The network cannot be trained, or the data cannot be used; see
            `find_trainable`, `open_training` and `split_samples`.
    """
    split = split_samples(training, evaluation, seed=settings.seed, drop_overlap=drop_overlap)
    seen, notes = as_trained(profile)
    network, scan = stored_layers(network, seen)
    placement = place(scan, seen)
    runtime = open_network(network, scan, placement, training, workers=workers)
    trainable = find_trainable(runtime, scan, seen, freeze=freeze)
    device = open_device(settings.device_type)
    twin, parameters = open_training(
        runtime,
        placement,
        trainable,
        update_norms=settings.update_norms,
        device=device,
        seed=settings.seed,
    )
    inputs = {name: tensor_of(array).to(device) for name, array in runtime.dataset.inputs.items()}
    constants = {
        name: tensor_of(array).to(device) for name, array in runtime.dataset.constants.items()
    }
    teacher = (
        _teacher_logits(
            twin, parameters, Samples(inputs, constants, torch.zeros(training.num_samples, 1))
        )
        if training.labels is None
        else None
    )
    objective, targets = objective_of(runtime.task, twin.readout, teacher)
    samples = Samples(inputs, constants, targets.to(device))
    return Session(
        runtime,
        scan,
        seen,
        split,
        twin,
        parameters,
        objective,
        samples,
        (*notes, *_digital_notes(scan)),
    )


def _teacher_logits(
    network: TrainingNetwork, parameters: Parameters, samples: Samples
) -> Float32[np.ndarray, "samples decisions classes"]:
    """Return the logits of the file's own weights, [samples, decisions, classes].

    The weights are neither quantised nor deviating.
    """
    parts = []
    with torch.no_grad():
        weights = {**network.digital(parameters), **network.stored(parameters)}
        for batch in torch.split(torch.arange(samples.count), 256):
            logits = network.logits(weights, samples.part(batch))
            parts.append(logits.reshape(len(batch), -1, logits.shape[-1]).cpu().numpy())
    return np.concatenate(parts)


def as_trained(profile: DeviceProfile) -> tuple[DeviceProfile, tuple[str, ...]]:
    """Return the profile as training sees it, and what it leaves out."""
    notes = []
    if profile.needs_kernel:
        profile = replace(profile, dac=None, adc=None, read_noise=None)
        notes.append("Training sees ideal converters and reads; the certificates do not.")
    separate = _with_separate_groups(profile)
    if separate != profile:
        profile = separate
        notes.append(
            "Training sees grouped convolutions on arrays of their own: cells that hold the zeros"
            " of a dense array do not deviate there."
        )
    return profile, tuple(notes)


def _digital_notes(scan: LayerScan) -> tuple[str, ...]:
    """Say which layers are left as they are because the profile keeps them digital."""
    digital = dict.fromkeys(node.node for node in scan.unmapped if node.rule is not None)
    return (
        (
            (
                "Weights that stay digital by the rules of the profile are not trained:"
                f" {', '.join(digital)}."
            ),
        )
        if digital
        else ()
    )


def _with_separate_groups(profile: DeviceProfile) -> DeviceProfile:
    """Return the profile with separate arrays for the groups of convolutions.

    The rules for layers change in the same way.
    """
    rules = tuple(
        rule if rule.tile is None else replace(rule, tile=replace(rule.tile, grouped="separate"))
        for rule in profile.rules
    )
    return replace(profile, tile=replace(profile.tile, grouped="separate"), rules=rules)
