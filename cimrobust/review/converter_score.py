"""The score of a witness through the converters that a certificate describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from cimrobust.device.load_profile import profile_of
from cimrobust.engine.codings import ArrayRanges
from cimrobust.engine.kernel_engine import KernelEngine, Weights, wider
from cimrobust.engine.open import open_network
from cimrobust.errors import InputRefusedError
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.explained import ConvertedArray
    from cimrobust.data.dataset import DataSet
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.network import Network


def converter_score(
    certificate: CertificateModel,
    network: Network,
    dataset: DataSet,
    chip: Mapping[str, Shaped[np.ndarray, "..."]] | Callable[[Placement], Weights],
) -> float:
    """Return the score of a chip through the converters of a certificate: its profile, its ranges.

    Args:
        certificate: The certificate; it has converters.
        network: The certified network.
        dataset: The evaluation samples.
        chip: Weights of every mapped initializer, or what makes a chip from their placement.

    Raises:
        InputRefusedError: The ranges are not those of this network's products.
    """
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    stored, scan = stored_layers(network, profile)
    ideal = replace(profile, dac=None, adc=None, read_noise=None)
    runtime = open_network(stored, scan, place(scan, ideal), dataset)
    plain = runtime.plain
    assert certificate.converters is not None
    ranges = {row.product: _ranges(row) for row in certificate.converters.arrays}
    placement = place(scan, profile)
    products = set(
        KernelEngine(plain.deployed, placement, output=plain.output, feeding=plain.feeding).arrays
    )
    if products != set(ranges):
        raise InputRefusedError(
            "converters must be given for the products of the network, got"
            f" {sorted(products ^ set(ranges))[:5]} in one of them only (certificate.json)"
        )
    engine = KernelEngine(
        plain.deployed, placement, output=plain.output, feeding=wider(plain.feeding), ranges=ranges
    )
    made = chip(placement) if callable(chip) else {name: chip[name] for name in placement.tensors}
    output = engine.run(made, runtime.dataset.inputs, runtime.dataset.constants)
    return float(runtime.task.score(output).value)


def _ranges(row: ConvertedArray) -> ArrayRanges:
    sums = None if row.sums is None else np.asarray(row.sums, dtype=np.float64)
    return ArrayRanges(float(row.input_low), float(row.input_high), sums)
