"""The most probable failing chip of a certificate, derived again from its file.

Norm, weights, score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Shaped

from cimrobust.device.load_profile import profile_of
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.open import open_network
from cimrobust.errors import InputRefusedError
from cimrobust.files import sha256_of
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.records import finite
from cimrobust.reliability.chip_file import CHIP_FILE
from cimrobust.review.converter_score import converter_score
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.tensor_file import read_tensors

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.likely import MostProbable
    from cimrobust.data.dataset import DataSet
    from cimrobust.mapping.placement import Placement
    from cimrobust.onnx_io.layers import LayerScan
    from cimrobust.onnx_io.network import Network
    from cimrobust.review.at_the_reviewer import Given

_FILE = f"witness/{CHIP_FILE}"
_PARTS = ("nominal", "deviation", "latents")


def probable_checks(
    directory: Path, certificate: CertificateModel, given: Given
) -> Iterator[ReplayCheck]:
    """Check the most probable failing chip; nothing where the certificate has none.

    Args:
        directory: Folder of the certificate.
        certificate: The certificate.
        given: What is at hand: without the network weights and score are not checked, without data
            or labels the score is not.

    Raises:
        InputRefusedError: The certificate names another file, or the file is corrupt.
    """
    rare = certificate.monte_carlo.rare
    if rare is None or rare.most_probable is None:
        return
    claimed = rare.most_probable
    if claimed.stored is None or claimed.stored.file != _FILE:
        raise InputRefusedError(
            f"the most probable failing chip must be stored in {_FILE}, got {claimed.stored}"
            " (certificate.json); do not trust it"
        )
    found = sha256_of(directory / _FILE)
    yield ReplayCheck(f"hash of {_FILE}", found == claimed.stored.sha256, f"sha256 {found[:16]}...")
    chip = _chip(directory / _FILE, [row.initializer for row in claimed.layers])
    yield _norm(claimed, chip)
    network = given.network
    if network is None:
        yield ReplayCheck(
            "most_probable_weights", None, "give --model to make its weights from its latents again"
        )
        yield ReplayCheck("most_probable_score", None, "give --model and --data to score it again")
        return
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    placed, scan = stored_layers(network, profile)
    placement = place(scan, profile)
    yield _weights(placement, chip)
    if given.data is None:
        yield ReplayCheck("most_probable_score", None, "give --data to score it again")
        return
    dataset = given.samples(certificate, network.inputs)
    missing = given.without_labels(certificate, dataset)
    if missing:
        yield ReplayCheck("most_probable_score", None, missing)
        return
    score = finite(_score(certificate, placed, scan, dataset, placement, chip))
    below = rare.threshold
    misses = score < below if certificate.metric.higher_is_better else score > below
    held = misses and bool(np.isclose(score, claimed.score, rtol=1e-6, atol=0))
    yield ReplayCheck(
        "most_probable_score",
        held,
        f"score {score:.6g}, claimed {claimed.score:.6g}, misses {below:g}:"
        f" {'yes' if misses else 'no'}",
    )


def _chip(path: Path, names: list[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
    tensors = read_tensors(path, what="chip")
    missing = [
        f"{name}.{part}" for name in names for part in _PARTS if f"{name}.{part}" not in tensors
    ]
    if missing:
        raise InputRefusedError(
            "chip must have nominal, deviation and latents of every layer, got none of"
            f" {missing[:3]} ({_FILE})"
        )
    return tensors


def _norm(claimed: MostProbable, chip: Mapping[str, Shaped[np.ndarray, "..."]]) -> ReplayCheck:
    """Derive the norm and its shares again from the stored latents."""
    squares = {
        row.initializer: float((chip[f"{row.initializer}.latents"].astype(np.float64) ** 2).sum())
        for row in claimed.layers
    }
    norm = float(np.sqrt(sum(squares.values())))
    held = bool(np.isclose(norm, claimed.reliability_index, rtol=1e-6, atol=1e-9))
    for row in claimed.layers:
        latents = chip[f"{row.initializer}.latents"]
        held &= (
            bool(np.isclose(squares[row.initializer], row.share * norm**2, rtol=1e-6, atol=1e-9))
            and latents.size == row.devices
        )
        held &= all(
            int((np.abs(latents) > limit).sum()) == beyond
            for limit, beyond in enumerate((row.beyond_1, row.beyond_2, row.beyond_3), start=1)
        )
    return ReplayCheck(
        "most_probable_norm",
        held,
        f"norm {norm:.6g} of the stored latents, claimed {claimed.reliability_index:.6g}",
    )


def _weights(placement: Placement, chip: Mapping[str, Shaped[np.ndarray, "..."]]) -> ReplayCheck:
    """Make the weights from the latents again.

    The quantile functions end at the tolerance, so that no latent leaves it.
    """
    made = LatentChips(placement).weights(_latents(placement, chip))
    for name, weights in made.items():
        nominal, deviation = chip[f"{name}.nominal"], chip[f"{name}.deviation"]
        if not np.array_equal(nominal, placement.tensors[name].nominal):
            return ReplayCheck(
                "most_probable_weights",
                False,
                f"the nominal weights of '{name}' are not those of the model",
            )
        # Rounding of nominal + deviation, and of quantile tables made on another machine.
        allowed = (
            1e-6 * float(np.abs(nominal).max(initial=0.0))
            + 1e-5 * placement.tensors[name].box_radius
        )
        if not (np.abs(weights - (nominal + deviation)) <= allowed).all():
            return ReplayCheck(
                "most_probable_weights",
                False,
                f"the weights of '{name}' are not those that the latents make",
            )
    return ReplayCheck(
        "most_probable_weights",
        True,
        f"weights of {len(made)} tensors made from the stored latents again",
    )


def _latents(
    placement: Placement, chip: Mapping[str, Shaped[np.ndarray, "..."]]
) -> Float32[np.ndarray, "devices"]:
    parts = []
    for name, tensor in placement.tensors.items():
        latents = chip[f"{name}.latents"]
        if latents.shape != (tensor.cells_per_weight, tensor.num_weights):
            raise InputRefusedError(
                f"latents of '{name}' must have shape"
                f" {[tensor.cells_per_weight, tensor.num_weights]}, got {list(latents.shape)}"
                f" ({_FILE})"
            )
        parts.append(latents.astype(np.float32).ravel())
    return np.concatenate(parts)


def _score(
    certificate: CertificateModel,
    network: Network,
    scan: LayerScan,
    dataset: DataSet,
    placement: Placement,
    chip: Mapping[str, Shaped[np.ndarray, "..."]],
) -> float:
    """Score the chip in the deployed network, through converters where the certificate has them."""
    latents = _latents(placement, chip)
    if certificate.converters is not None:
        return converter_score(
            certificate,
            network,
            dataset,
            lambda placed: LatentChips(placed, as_levels=True).program(latents),
        )
    runtime = open_network(network, scan, placement, dataset)
    weights = {
        name: np.asarray(chip[f"{name}.nominal"] + chip[f"{name}.deviation"], dtype=np.float32)
        for name in placement.tensors
    }
    return float(runtime.score(weights).value)
