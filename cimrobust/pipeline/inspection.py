"""What a network would look like on crossbars, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cimrobust.certificate.notebook_view import notebook_view
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.profile import DeviceProfile
from cimrobust.errors import ModelNotCoveredError
from cimrobust.input_file import printable
from cimrobust.mapping.chip_load import ArrayLoad, array_load
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.outline import LayerOutline, outlines
from cimrobust.mapping.place import check_ranges, place
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.vectors import vectors_per_sample
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.pipeline.resolved_profile import resolve_profile

if TYPE_CHECKING:
    from cimrobust.mapping.placement import Placement, TensorPlacement
    from cimrobust.settings.python_inputs import DeviceLike, ModelLike

_MOST_NAMED = 8


@dataclass(frozen=True, repr=False)
class Inspection:
    """A network, its crossbar layers, and the devices that their weights are stored in.

    Attributes:
        network: The network.
        scan: Its crossbar layers, with the rules of the profile applied.
        profile: The devices.
    """

    network: Network
    scan: LayerScan
    profile: DeviceProfile

    @cached_property
    def placement(self) -> Placement:
        """Where every weight is stored; made when first asked for, and then held."""
        return place(self.scan, self.profile)

    @property
    def is_placed(self) -> bool:
        """Whether the placement is held already."""
        return "placement" in self.__dict__

    def _outlines(self) -> Iterator[LayerOutline | TensorPlacement]:
        """Yield what is told of the layers: of one after the other, unless all are held already.

        A large network fits into memory once, but not with quantised weights and box beside it.
        """
        if self.is_placed:
            yield from self.placement.tensors.values()
        else:
            yield from outlines(self.scan, self.profile)

    def __repr__(self) -> str:
        """Say how much of the network is stored in devices, in one line."""
        count = sum(tensor.num_devices for tensor in self._outlines())
        return (
            f"<Inspection of {printable(self.network.path.name)}: {len(self.scan.layers)} crossbar"
            f" layers, {count} devices of {printable(self.profile.name)}>"
        )

    def _repr_html_(self) -> str:
        """Show the crossbar layers in a notebook."""
        plain = self.to_dict()
        return notebook_view(
            f"{plain['model']}: {plain['total_devices']} devices of {plain['device']}",
            [
                (
                    layer["initializer"],
                    ", ".join(layer["operators"]),
                    layer["matrix"],
                    layer["devices"],
                    layer["tiles"],
                )
                for layer in plain["layers"]
            ],
            columns=("layer", "operator", "matrix", "devices", "arrays"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: totals, one entry a layer, and what stays digital."""
        vectors = vectors_per_sample(self.network, self.scan)
        layers, loads, num_tiles, num_devices = [], list[ArrayLoad](), list[int](), 0
        for layer, tensor in zip(self.scan.layers, self._outlines(), strict=True):
            load = array_load(tensor, [vectors[use.node] for use in layer.uses])
            layers.append(
                {**layer_dict(tensor, [use.op for use in layer.uses]), **asdict(load)}
                | {"decided_by": self.profile.decider(layer.rule)}
            )
            loads.append(load)
            num_tiles.append(tensor.num_tiles)
            num_devices += tensor.num_devices
        conversions = [load.conversions for load in loads]
        return {
            "model": self.network.path.name,
            "opset": self.network.opsets.get("", 0),
            "parameters": self.network.num_parameters,
            "mapped_weights": sum(layer.num_weights for layer in self.scan.layers),
            "device": self.profile.name,
            "total_devices": num_devices,
            "total_tiles": sum(num_tiles),
            "utilisation": (
                sum(load.utilisation * count for load, count in zip(loads, num_tiles, strict=True))
                / sum(num_tiles)
            ),
            "conversions_per_sample": (
                None
                if None in conversions
                else sum(count for count in conversions if count is not None)
            ),
            "layers": layers,
            "unmapped": [
                {"node": node.node, "op": node.op, "reason": node.reason}
                for node in self.scan.unmapped
            ],
            "notes": list(self.network.notes),
        }


@takes_objects
def inspect_model(
    model: ModelLike,
    *,
    device: DeviceLike,
    tolerance: float | None = None,
    digital: Sequence[str] = (),
    example_input: Any = None,
) -> Inspection:
    """Load a model and place its crossbar layers on devices.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        device: Name of a shipped device profile, a TOML file, or its tables.
        tolerance: Write-verify tolerance in place of the profile's, fraction of the conductance
            range.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Raises:
        InputRefusedError: The model is corrupt or unsafe.
        ModelNotCoveredError: No layer of the model maps to a crossbar.
        UsageError: The profile is wrong, or a rule of it or a pattern fits no layer.
    """
    return inspect_on(given_path(model), resolve_profile(str(device), tolerance, digital))


def inspect_on(model: str | Path, profile: DeviceProfile) -> Inspection:
    """Load a model and place its crossbar layers on the devices of a profile.

    Errors as `inspect_model`.
    """
    network, scan = stored_layers(load_network(Path(model)), profile)
    if not scan.layers:
        raise ModelNotCoveredError(_nothing_mapped(model, scan))
    check_ranges(scan, profile)
    return Inspection(network, scan, profile)


def _nothing_mapped(model: str | Path, scan: LayerScan) -> str:
    """Say that no layer of a model maps; name the nodes that hold weights, with the reasons."""
    held = [
        f"node '{node.node}' ({node.op}): {node.reason.removeprefix('digital: ')}"
        for node in scan.unmapped
    ]
    some = "; ".join(held[:_MOST_NAMED]) + (
        f"; and {len(held) - _MOST_NAMED} more" if len(held) > _MOST_NAMED else ""
    )
    return (
        "model must have at least one layer with constant weights that maps to a crossbar, got"
        f" none ({model}){'; what stays digital: ' + some if held else ''}; Conv, ConvTranspose,"
        " Gemm, MatMul, their quantised forms, LSTM, GRU and RNN map"
    )


def layer_dict(tensor: LayerOutline | TensorPlacement, operators: list[str]) -> dict[str, Any]:
    """Return what a reader wants to know of one layer, as plain values."""
    groups = f"{tensor.num_groups} x " if tensor.num_groups > 1 else ""
    smallest, largest = float(tensor.scale.min()), float(tensor.scale.max())
    return {
        "initializer": tensor.initializer,
        "operators": operators,
        "shape": list(tensor.shape),
        "groups": tensor.num_groups,
        "rows": tensor.num_rows,
        "columns": tensor.num_cols,
        "matrix": f"{groups}{tensor.num_rows} x {tensor.num_cols}",
        "devices": tensor.num_devices,
        "weight_bits": tensor.profile.weight.bits,
        "device_bits": tensor.profile.device.bits,
        "coding": tensor.profile.weight.mapping,
        "tolerance": tolerance_fraction(tensor.profile),
        "slices": tensor.num_slices,
        "tiles": tensor.num_tiles,
        "scale": [smallest, largest],
        "scale_text": (
            f"{largest:.4g}" if smallest == largest else f"{smallest:.3g} to {largest:.3g}"
        ),
        "box_radius": tensor.box_radius,
        "levels_given": tensor.levels_given,
    }
