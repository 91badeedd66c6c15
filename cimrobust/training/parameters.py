"""What training changes: stored weights, biases, and on demand normalisations.

What it leaves alone, and why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor

from cimrobust.errors import ModelNotCoveredError, SelfCheckError, UsageError
from cimrobust.mapping.own_profile import own_profile
from cimrobust.onnx_io.tensors import is_float
from cimrobust.onnx_io.trainable import DigitalParameters, digital_parameters
from cimrobust.training.weights_on_devices import LayerDevices, grid_of

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.engine.open import Runtime
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.twin.to_torch import Twin


@dataclass(frozen=True)
class Trainable:
    """What may change, by role; names are those of the file's initializers.

    Attributes:
        layers: Stored weights that are trained, with their devices.
        fixed: Stored weights that are not, with their devices: they deviate all the same.
        biases: Biases that are trained.
        digital: Biases, normalisations and digital copies of the network.
        left: What is left as it is, and why.
    """

    layers: Mapping[str, LayerDevices]
    fixed: Mapping[str, LayerDevices]
    biases: tuple[str, ...]
    digital: DigitalParameters
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def devices(self) -> dict[str, LayerDevices]:
        """Devices of all stored weights."""
        return {**self.layers, **self.fixed}


def find_trainable(
    runtime: Runtime, scan: LayerScan, profile: DeviceProfile, *, freeze: Sequence[str] = ()
) -> Trainable:
    """Find what of a network can be trained.

    Args:
        runtime: The deployed network.
        scan: Its crossbar layers.
        profile: Devices that they are stored in.
        freeze: Initializers to leave as they are.

    Raises:
        UsageError: A name to freeze is no trainable initializer.
        ModelNotCoveredError: A stored weight has a form that cannot be trained; names every such
            initializer.
    """
    digital = digital_parameters(runtime.deployed, runtime.engine.output)
    known = {layer.initializer for layer in scan.layers} | set(digital.biases)
    unknown = sorted(set(freeze) - known)
    if unknown:
        raise UsageError(
            f"initializers to freeze must be stored weights or biases of the model, got {unknown}"
            f" (--freeze); known: {sorted(known)}"
        )
    left = dict.fromkeys(freeze, "frozen by the user")
    left |= {
        name: "the decision does not depend on it"
        for name in runtime.checks.dead
        if name not in left
    }
    problems, layers, fixed = [], {}, {}
    for layer in scan.layers:
        raw = runtime.network.initializers[layer.initializer]
        devices = LayerDevices(layer, own_profile(layer, profile), grid_of(layer, raw))
        if layer.initializer in left:
            fixed[layer.initializer] = devices
        elif layer.levels is None and not _is_plain_float(raw):
            problems.append(
                f"'{layer.initializer}' (type {raw.dtype.name} has no steps to round to)"
            )
        elif layer.levels is not None and f"{layer.initializer}.digital" in {
            tensor.name for tensor in runtime.deployed.model.graph.initializer
        }:
            problems.append(f"'{layer.initializer}' (its integers are also read outside crossbars)")
        else:
            layers[layer.initializer] = devices
    if problems:
        raise ModelNotCoveredError(
            f"stored weights must be trainable, got {', '.join(problems)}; freeze these"
            " initializers (--freeze)"
        )
    if not layers:
        raise UsageError(
            "re-training needs at least one stored weight to train, got none (--freeze); freeze"
            " fewer initializers"
        )
    biases = tuple(
        name for name in digital.biases if name not in left and name in runtime.network.initializers
    )
    return Trainable(layers, fixed, biases, digital, left)


def _is_plain_float(raw: Shaped[np.ndarray, "..."]) -> bool:
    return is_float(raw) and not raw.dtype.name.startswith("float8")


@dataclass
class Parameters:
    """Values being trained, one tensor a name.

    Attributes:
        weights: Stored weights, float32, own shapes.
        digital: Biases and what of normalisations is trained by gradient.
        buffers: Statistics of normalisations that follow the data.
    """

    weights: dict[str, Float32[Tensor, "..."]]
    digital: dict[str, Float32[Tensor, "..."]]
    buffers: dict[str, Float32[Tensor, "..."]]

    def leaves(self) -> list[Float32[Tensor, "..."]]:
        """Return what an optimiser moves, in a fixed order."""
        return [*self.weights.values(), *self.digital.values()]

    def copy(self) -> Parameters:
        """Return detached copies."""
        parts = [
            {name: tensor.detach().clone() for name, tensor in part.items()}
            for part in (self.weights, self.digital, self.buffers)
        ]
        return Parameters(*parts)

    def load(self, other: Parameters) -> None:
        """Take over the values of others, in place."""
        with torch.no_grad():
            for mine, theirs in (
                (self.weights, other.weights),
                (self.digital, other.digital),
                (self.buffers, other.buffers),
            ):
                for name, tensor in mine.items():
                    tensor.copy_(theirs[name])

    def state(self) -> dict[str, dict[str, Float32[Tensor, "..."]]]:
        """Return all values by role, for a checkpoint."""
        return {
            "weights": dict(self.weights),
            "digital": dict(self.digital),
            "buffers": dict(self.buffers),
        }

    def to_numpy(self) -> dict[str, Float32[np.ndarray, "..."]]:
        """Return all values by name."""
        return {
            name: tensor.detach().cpu().numpy().copy()
            for part in (self.weights, self.digital, self.buffers)
            for name, tensor in part.items()
        }


def initial_parameters(
    twin: Twin, runtime: Runtime, trainable: Trainable, *, update_norms: bool, device: torch.device
) -> Parameters:
    """Return the parameters at the values of the file.

    Args:
        twin: The network; what it does not use for the decision is left out.
        runtime: The deployed network.
        trainable: What may change.
        update_norms: Train gain and shift of normalisations, and let their statistics follow the
            data.
        device: Where to.
    """
    initializers = {
        name: array for name, array in runtime.network.initializers.items() if is_float(array)
    }

    def leaf(
        array: Shaped[np.ndarray, "*shape"], *, moves: bool = True
    ) -> Float32[Tensor, "*shape"]:
        return torch.from_numpy(np.array(array, np.float32)).to(device).requires_grad_(moves)

    norms = trainable.digital.normalisations if update_norms else ()
    by_gradient = (
        *trainable.biases,
        *(name for norm in norms for name in (norm.scale, norm.shift)),
    )
    statistics = [name for norm in norms for name in (norm.mean, norm.variance)]
    return Parameters(
        weights={name: leaf(twin.weights[name].cpu().numpy()) for name in trainable.layers},
        digital={name: leaf(initializers[name]) for name in by_gradient},
        buffers={name: leaf(initializers[name], moves=False) for name in statistics},
    )


def stored_integers(
    trainable: Trainable, parameters: Parameters
) -> tuple[dict[str, Float32[np.ndarray, "..."]], dict[str, Int64[np.ndarray, "..."]]]:
    """Return the float values to write by name, and the integers of integer tensors.

    Those tensors are held as integers by the file; the zero point is included.
    """
    values, integers = parameters.to_numpy(), {}
    for name, devices in trainable.layers.items():
        if devices.grid is not None:
            levels = devices.grid.levels(parameters.weights[name]).cpu()
            values[name] = (levels * devices.grid.scale.cpu()).numpy()
            integers[name] = levels.numpy().astype(np.int64) + devices.grid.zero_point
    return values, integers


def check_changed(
    before: Mapping[str, Shaped[np.ndarray, "..."]],
    after: Mapping[str, Shaped[np.ndarray, "..."]],
    *,
    must_change: bool = True,
) -> None:
    """Raise unless every tensor that was to be trained is finite and changed.

    Args:
        before: Values and integers before training, by name.
        after: Those after it.
        must_change: Old values are an error. The control may keep some: where nothing is to be
            gained, integers stay what they are.

    Raises:
        SelfCheckError: One is not finite.
        UsageError: One kept its values: training was too short or too slow, for integers in
            particular, which change by whole steps.
    """
    broken = [name for name, array in after.items() if not np.isfinite(array).all()]
    if broken:
        raise SelfCheckError(
            f"trained values must be finite, got others in {', '.join(map(repr, broken))}; report"
            " this"
        )
    same = [name for name in after if np.array_equal(before[name], after[name])]
    if must_change and same:
        raise UsageError(
            "every initializer to be trained must change, got the old values in"
            f" {', '.join(map(repr, same))}; train longer (--epochs) or faster (--learning-rate),"
            " or freeze them (--freeze)"
        )
