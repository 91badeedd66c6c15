"""Writing a network as an ONNX file that shows what is stored in crossbars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import cimrobust
from cimrobust.engine.deployed_engine import rounds_activations
from cimrobust.engine.other_sizes import SizesCheck, check_sizes
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.lower import lower
from cimrobust.onnx_io.rewrite import with_crossbar_nodes
from cimrobust.onnx_io.save import save_model, to_bytes
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.pipeline.inspection import Inspection, inspect_model, layer_dict
from cimrobust.printable_text import printable

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed
    from cimrobust.settings.python_inputs import DeviceLike, ModelLike


@dataclass(frozen=True, repr=False)
class Rewritten:
    """A file with crossbar nodes.

    Attributes:
        path: The file.
        sha256: Its digest.
        inspection: The network and its placement.
        num_nodes: Crossbar nodes per function of the domain ``cimrobust``.
        sizes: How its structure, with the weights of the source, was compared with the source.
    """

    path: Path
    sha256: str
    inspection: Inspection
    num_nodes: Mapping[str, int]
    sizes: SizesCheck

    def __repr__(self) -> str:
        """Say what was written, in one line."""
        count = sum(self.num_nodes.values())
        return f"<Rewritten: {count} crossbar nodes, in {printable(self.path)}>"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: what inspection says, the file, and its crossbar nodes."""
        plain = self.inspection.to_dict()
        if any(layer["levels_given"] for layer in plain["layers"]):
            plain["notes"].append(
                "integer weights are written as the floats they stand for; analyse the original"
                " file, which has the levels"
            )
        plain["notes"].append(f"with the weights of the source, {self.sizes.sentence}")
        return {
            "file": str(self.path),
            "sha256": self.sha256,
            "crossbar_nodes": dict(self.num_nodes),
            **plain,
        }


@takes_objects
def rewrite(
    model: ModelLike,
    *,
    device: DeviceLike,
    out: str | Path,
    tolerance: float | None = None,
    digital: Sequence[str] = (),
    example_input: Any = None,
) -> Rewritten:
    """Write a model whose crossbar layers are nodes of the domain ``cimrobust``.

    They hold the weights as a device profile quantises them.

    Every such node is an ONNX function of the plain operator, so the file is valid and runs in any
    runtime, with the outputs of the quantised network. Profile and layer facts stand in the
    metadata of model and nodes.

    Args:
        model: ONNX file, or a model in memory: its bytes, an `onnx.ModelProto`, or a
            `torch.nn.Module` with `example_input`.
        device: Name of a shipped device profile, a TOML file, or its tables.
        out: File to write; it appears whole or not at all.
        tolerance: Write-verify tolerance in place of the profile's, fraction of the conductance
            range.
        digital: Patterns of initializer or node names whose layers stay digital, beside the rules
            of the profile.
        example_input: What a `torch.nn.Module` is exported with: a tensor or an array of samples,
            or a tuple of them.

    Raises:
        InputRefusedError: The model is corrupt or unsafe.
        ModelNotCoveredError: No layer of the model maps to a crossbar, the result does not fit in
            one file, or onnxruntime does not run the model.
        SelfCheckError: The result, with the weights of the model, does not compute what the model
            does.
        UsageError: The profile is wrong, or the file cannot be written.
    """
    source, target = given_path(model), Path(out)
    _require_target(source, target)
    inspection = inspect_model(source, device=str(device), tolerance=tolerance, digital=digital)
    layers = _layer_facts(inspection)
    deployed, properties = (
        lower(deploy(inspection.network, inspection.scan, widen=False)),
        _properties(inspection, layers),
    )
    sizes = _check_sizes(inspection, deployed, layers, properties)
    rewritten = with_crossbar_nodes(
        deployed, inspection.placement.nominal(), layers=layers, properties=properties
    )
    try:
        save_model(rewritten.model, target)
    except OSError as err:
        raise UsageError(
            f"output file must be writable, got {err.strerror} ({printable(target)}, --out); choose"
            " another place"
        ) from err
    return Rewritten(target, sha256_of(target), inspection, rewritten.num_nodes, sizes)


def _check_sizes(
    inspection: Inspection,
    deployed: Deployed,
    layers: Mapping[str, Mapping[str, Any]],
    properties: Mapping[str, str],
) -> SizesCheck:
    """Compare the model to be written, but with the weights of the source, with the source."""
    own = {
        layer.initializer: np.asarray(layer.values, np.float32) for layer in inspection.scan.layers
    }
    same = with_crossbar_nodes(deployed, own, layers=layers, properties=properties)
    integer = rounds_activations(inspection.network, inspection.scan)
    return check_sizes(
        inspection.network, to_bytes(same.model, inspection.network.path), integer=integer
    )


def _require_target(source: Path, target: Path) -> None:
    """Refuse a place where no file can be written, or where the model lies, before any work."""
    where = f"({printable(target)}, --out)"
    if target.is_dir():
        raise UsageError(
            f"output must be a file, got a folder {where}; give the name of an .onnx file"
        )
    if not target.parent.is_dir():
        raise UsageError(
            f"folder of the output file must exist, got none {where}; create it or choose another"
            " place"
        )
    if source.exists() and target.exists() and source.samefile(target):
        raise UsageError(
            f"output file must be another than the model, got the model itself {where}; choose"
            " another name"
        )


def _layer_facts(inspection: Inspection) -> dict[str, dict[str, Any]]:
    facts: dict[str, dict[str, Any]] = {}
    for layer in inspection.scan.layers:
        tensor = inspection.placement.tensors[layer.initializer]
        weight, plain = tensor.profile.weight, layer_dict(tensor, [use.op for use in layer.uses])
        del plain["scale_text"]
        facts[layer.initializer] = {**plain, "bits": weight.bits, "mapping": weight.mapping}
    return facts


def _properties(inspection: Inspection, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the metadata of the whole model.

    The layers in it are those of its nodes again, for whoever reads no nodes.
    """
    profile = inspection.placement.profile
    return {
        "cimrobust.version": cimrobust.__version__,
        "cimrobust.source": inspection.network.files[0].name,
        "cimrobust.source_sha256": inspection.network.files[0].sha256,
        "cimrobust.device": profile.name,
        "cimrobust.profile": json.dumps(profile.to_dict()),
        "cimrobust.layers": json.dumps(list(layers.values())),
    }
