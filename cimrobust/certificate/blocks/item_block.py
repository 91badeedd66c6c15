"""The item under test: tool, metric, model, data, devices, mapping."""

from __future__ import annotations

import math
import platform
from importlib import metadata
from typing import TYPE_CHECKING

from cimrobust import __version__
from cimrobust.certificate import models
from cimrobust.device.digest import profile_digest
from cimrobust.device.distribution import excluded_probability
from cimrobust.device.intervals import tolerance_fraction

if TYPE_CHECKING:  # they are described, not made
    from cimrobust.certificate.evidence import Tested
    from cimrobust.data.dataset import DataSet
    from cimrobust.data.task import Task
    from cimrobust.mapping.placement import Placement, TensorPlacement
    from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan
    from cimrobust.onnx_io.network import TensorSpec

_DEPENDENCIES = ("numpy", "onnx", "onnxruntime", "onnx2torch", "scipy", "torch")
_METRICS = {
    "accuracy": "share of right decisions",
    "rmse": "root mean square error, in the unit of the target",
    "mae": "mean absolute error, in the unit of the target",
    "mse": "mean square error, in the squared unit of the target",
    "max_error": "largest absolute error, in the unit of the target",
}


def tool() -> models.Tool:
    """Describe what made the certificate."""
    versions = {name: metadata.version(name) for name in _DEPENDENCIES}
    return models.Tool(
        name="cimrobust",
        version=__version__,
        dependencies={"python": platform.python_version(), **versions},
    )


def metric(task: Task) -> models.Metric:
    """Describe what a score is."""
    found = metric_named(task.metric)
    assert found is not None
    assert found.higher_is_better == task.higher_is_better
    return found


def metric_named(name: str) -> models.Metric | None:
    """Describe the metric of a name; None: there is none."""
    if name not in _METRICS:
        return None
    is_share = name == "accuracy"
    return models.Metric(
        name=name,
        higher_is_better=is_share,
        unit="fraction" if is_share else "target unit",
        description=_METRICS[name],
    )


def model(evidence: Tested) -> models.Model:
    """Describe the network."""
    network = evidence.network
    mapped = sum(tensor.num_weights for tensor in evidence.placement.tensors.values())
    return models.Model(
        name=network.path.name,
        files=[
            models.FileHash(name=file.name, sha256=file.sha256, bytes=file.num_bytes)
            for file in network.files
        ],
        opset=dict(network.opsets),
        ir_version=network.ir_version,
        producer=network.producer,
        operators=dict(network.operators),
        parameters=network.num_parameters,
        mapped_weights=mapped,
        mapped_fraction=min(1.0, mapped / max(network.num_parameters, 1)),
        inputs=[_tensor(spec) for spec in network.inputs],
        outputs=[_tensor(spec) for spec in network.outputs],
        batch=evidence.runtime.batch_note,
        notes=[*network.notes, *evidence.runtime.deployed.notes],
    )


def data(evidence: Tested) -> models.Data:
    """Describe the evaluation data."""
    dataset, source = evidence.runtime.dataset, evidence.runtime.dataset.source
    decision = dataset.decision
    return models.Data(
        description=source.description,
        files=dict(source.files),
        available=source.num_available,
        used=dataset.num_samples,
        steps={name: [dict(step) for step in steps] for name, steps in source.steps.items()},
        label_source="self" if dataset.labels is None else "model" if source.labels_of else "given",
        labels_of=dict(source.labels_of) or None,
        decision=models.DecisionBlock(
            output=evidence.runtime.engine.output,
            read=decision.read,
            metric=decision.metric,
            threshold=(
                list(decision.threshold)
                if isinstance(decision.threshold, tuple)
                else decision.threshold
            ),
            axis=evidence.runtime.task.axis if decision.chooses else decision.axis,
            axis_reason=evidence.runtime.task.axis_reason or None,
            k=decision.k if decision.read == "topk" else None,
        ),
        labels=_labels(evidence.runtime.task, dataset),
        broken=int(evidence.runtime.task.broken(evidence.runtime.clean_output).sum()),
    )


def _labels(task: Task, dataset: DataSet) -> models.Labels:
    reading = dataset.reading
    return models.Labels(
        classes=None if reading.classes is None else list(reading.classes),
        first=reading.first,
        ignore=list(reading.ignore),
        ignored_samples=dataset.source.num_ignored,
        ignored_decisions=int((~task.counted).sum()),
    )


def device(placement: Placement) -> models.Device:
    """Describe the devices."""
    profile = placement.profile
    return models.Device(
        profile=profile.to_dict(),
        tolerance_fraction=tolerance_fraction(profile),
        largest_tolerance_fraction=placement.tolerance_fraction,
        excluded_probability=placement.excluded_probability,
    )


def certified_device(placement: Placement) -> models.CertifiedDevice:
    """Describe the devices, with the digest of their profile."""
    described = device(placement)
    outside = [
        (tensor.num_devices, excluded_probability(tensor.profile))
        for tensor in placement.tensors.values()
    ]
    inside = math.fsum(
        count * math.log1p(-min(share, 1.0)) if share < 1 else -math.inf for count, share in outside
    )
    return models.CertifiedDevice(
        **dict(described),
        profile_sha256=profile_digest(placement.profile),
        devices_outside=math.fsum(count * share for count, share in outside),
        chip_inside_probability=math.exp(inside),
    )


def mapping(scan: LayerScan, placement: Placement) -> models.Mapping:
    """Describe what is stored in devices and what is not."""
    tensors, profile = placement.tensors, placement.profile
    return models.Mapping(
        layers=[
            _layer(layer, tensors[layer.initializer], profile.decider(layer.rule))
            for layer in scan.layers
        ],
        unmapped=[
            models.Unmapped(node=node.node, op=node.op, reason=node.reason)
            for node in scan.unmapped
        ],
        total_devices=sum(tensor.num_devices for tensor in tensors.values()),
        total_tiles=sum(tensor.num_tiles for tensor in tensors.values()),
    )


def _tensor(spec: TensorSpec) -> models.Tensor:
    return models.Tensor(
        name=spec.name, dtype=spec.dtype, shape=None if spec.shape is None else list(spec.shape)
    )


def _layer(layer: CrossbarLayer, tensor: TensorPlacement, decided_by: str) -> models.Layer:
    own = tensor.profile
    return models.Layer(
        initializer=layer.initializer,
        operators=list(dict.fromkeys(use.op for use in layer.uses)),
        nodes=[use.node for use in layer.uses],
        shape=list(layer.shape),
        groups=tensor.num_groups,
        rows=tensor.num_rows,
        columns=tensor.num_cols,
        weight_bits=own.weight.bits,
        slices=tensor.num_slices,
        cells_per_weight=tensor.cells_per_weight,
        devices=tensor.num_devices,
        tiles=tensor.num_tiles,
        scale_min=float(tensor.scale.min()),
        scale_max=float(tensor.scale.max()),
        box_radius=tensor.box_radius,
        levels_given=tensor.levels_given,
        decided_by=decided_by,
        rule=layer.rule,
        device_bits=own.device.bits,
        coding=own.weight.mapping,
        tolerance_fraction=tolerance_fraction(own),
        tile_rows=own.tile.rows,
        tile_columns=own.tile.columns,
    )
