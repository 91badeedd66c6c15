"""Chips drawn from the distribution of the profile, for weights that are being trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.kernel import program_chip
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import LayerScan

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement
    from cimrobust.training.weights_on_devices import Chip, LayerDevices


@dataclass(frozen=True)
class ChipSource:
    """Draws chips with the native kernel, as trials do.

    Attributes:
        scan: Layers of the network at the file's weights.
        profile: Their devices.
        seed: Seed of the run.
    """

    scan: LayerScan
    profile: DeviceProfile
    seed: int

    def placement(
        self, weights: Mapping[str, Float[Tensor, "..."]], devices: Mapping[str, LayerDevices]
    ) -> Placement:
        """Return where weights of the moment are stored."""
        layers = []
        for layer in self.scan.layers:
            weight, grid = weights[layer.initializer].detach(), devices[layer.initializer].grid
            if grid is None:
                layers.append(replace(layer, stored=np.ascontiguousarray(weight.cpu().numpy())))
                continue
            levels = grid.levels(weight)
            values = (levels * grid.scale).cpu().numpy()
            layers.append(
                replace(layer, stored=values, levels=levels.cpu().numpy().astype(np.int32))
            )
        return place(replace(self.scan, layers=tuple(layers)), self.profile)

    def deviations(
        self,
        weights: Mapping[str, Float[Tensor, "..."]],
        devices: Mapping[str, LayerDevices],
        chips: Mapping[str, Chip],
        trials: range,
    ) -> list[dict[str, Float32[Tensor, "..."]]]:
        """Return the deviations of drawn chips, on the device of the weights.

        Args:
            weights: Stored weights of the moment.
            devices: Their devices.
            chips: The same, programmed.
            trials: Which chips.
        """
        if not len(trials):
            return []
        placement = self.placement(weights, devices)
        found = []
        for trial in trials:
            drawn = program_chip(placement, seed=self.seed, trial=trial)
            found.append(
                {
                    name: (
                        torch.from_numpy(drawn[name] - placement.tensors[name].nominal).to(
                            chip.nominal.device
                        )
                    )
                    for name, chip in chips.items()
                }
            )
        return found
