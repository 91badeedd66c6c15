"""Layers that are protected from their devices.

Kept digital, or verified more tightly than the others.
"""

from __future__ import annotations

import glob
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.intervals import largest_programming_error
from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.mapping.place import place_layer
from cimrobust.mapping.placement import GivenLimits, Placement, TensorPlacement

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan

DIGITAL, TIGHTER = "digital", "tighter"
#: Where rules that were found come from.
SOURCE = "cimrobust suggest"
# Without a tolerance of their own, layers that are verified more tightly get a tenth of what they
# have.
_TIGHTER = 10.0


@dataclass(frozen=True)
class Protection:
    """A way to protect layers.

    Attributes:
        kind: ``digital`` or ``tighter``.
        tolerance: Of devices that are verified more tightly, fraction of the full conductance
            range; None: a tenth of what their layer has.
    """

    kind: str
    tolerance: float | None = None

    def profile(self, own: DeviceProfile) -> DeviceProfile:
        """Return the devices of a layer that is verified more tightly.

        Those of its own where they are precise enough.
        """
        error = largest_programming_error(own)
        wanted = error / _TIGHTER if self.tolerance is None else self.tolerance
        return replace(with_tolerance(own, wanted), name=own.name) if wanted < error else own

    def helps(self, tensor: TensorPlacement) -> bool:
        """Tell whether a layer deviates less when it is protected."""
        if self.kind == DIGITAL:
            return bool(tensor.lo.any() or tensor.hi.any())
        return self.profile(tensor.profile) != tensor.profile

    def placement(
        self, placement: Placement, scan: LayerScan, chosen: Collection[str], *, is_float: bool
    ) -> Placement:
        """Return where the layers are stored with some protected.

        A digital layer is kept among the others, as one that does not deviate: so the same deployed
        network and the same twin serve for every choice.

        Args:
            placement: Without any protected.
            scan: The layers.
            chosen: Initializers of those to protect.
            is_float: Digital layers have the weights of the file, else those that the devices would
                be programmed to.
        """
        tensors = dict(placement.tensors)
        for layer in scan.layers:
            if layer.initializer in chosen:
                tensors[layer.initializer] = self._protected(
                    layer, tensors[layer.initializer], is_float=is_float
                )
        return Placement(placement.profile, tensors)

    def _protected(
        self, layer: CrossbarLayer, tensor: TensorPlacement, *, is_float: bool
    ) -> TensorPlacement:
        if self.kind == TIGHTER:
            return place_layer(layer, self.profile(tensor.profile))
        still = np.zeros(tensor.shape, np.float32)
        nominal = np.ascontiguousarray(layer.values, np.float32) if is_float else tensor.nominal
        exact = replace(
            tensor.profile,
            device=DeviceTable(bits=tensor.profile.device.bits, tolerance=0.0, sigma=0.0),
            faults=None,
            relaxation=None,
            drift=None,
            window=None,
        )
        return replace(
            tensor,
            profile=exact,
            stored=nominal,
            limits=GivenLimits(still, still),
            drift_factor=1.0,
        )

    def rules(self, placement: Placement, chosen: Collection[str]) -> tuple[LayerRule, ...]:
        """Return the rules of a profile that protect layers, in graph order."""
        return tuple(
            self._rule(tensor, placement.profile)
            for name, tensor in placement.tensors.items()
            if name in chosen
        )

    def _rule(self, tensor: TensorPlacement, stated: DeviceProfile) -> LayerRule:
        pattern, own = glob.escape(tensor.initializer), tensor.profile
        if self.kind == DIGITAL:
            return LayerRule(match=pattern, digital=True, source=SOURCE)
        return LayerRule(
            match=pattern,
            source=SOURCE,
            device=self.profile(own).device,
            # A rule decides alone: what an earlier one says of the layer is said again.
            weight=own.weight if own.weight != stated.weight else None,
            tile=own.tile if own.tile != stated.tile else None,
        )


def num_devices(placement: Placement, names: Collection[str]) -> int:
    """Return the devices of some layers together."""
    return sum(placement.tensors[name].num_devices for name in names)
