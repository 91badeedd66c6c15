"""Derive again what is stored in devices and what is not.

The network, the profile and its rules decide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust import __version__
from cimrobust.certificate.blocks import item_block as item
from cimrobust.device.load_profile import profile_of
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.review.differences import Exactness, differences, named
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.onnx_io.network import Network

# Scales and the box are float32.
_ROUNDING = 1e-6


def layers_check(certificate: CertificateModel, network: Network | None) -> ReplayCheck:
    """Check which rule decided for every layer, and everything that follows of its devices.

    Args:
        certificate: The certificate.
        network: The certified network; None: it is not at hand.
    """
    if network is None:
        return ReplayCheck(
            "layers",
            None,
            "give --model to derive again which layers are stored, and in what devices",
        )
    wrong = list(_wrong(certificate, network))
    if wrong:
        return ReplayCheck(
            "layers", False, f"{named(wrong)} does not follow from network, profile and rules"
        )
    count = len(certificate.mapping.layers)
    return ReplayCheck(
        "layers", True, f"{count} layers decided, coded and placed as the profile and its rules say"
    )


def _wrong(certificate: CertificateModel, network: Network) -> Iterator[str]:
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    _stored, scan = stored_layers(network, profile)
    placement = place(scan, profile)
    derived, claimed = item.mapping(scan, placement), certificate.mapping
    # Sentences, and the order of layers, may be others in another version.
    same_version = (
        certificate.tool.version == __version__
        and certificate.stated_version == certificate.VERSION
    )
    exactness = Exactness(texts=same_version, rtol=_ROUNDING)
    device = item.device(placement).model_copy(update={"profile": certificate.device.profile})
    yield from differences(device, certificate.device, place="device", exactness=exactness)
    rows = {row.initializer: row for row in derived.layers}
    missing = rows.keys() - {row.initializer for row in claimed.layers}
    if missing:
        yield f"mapping.layers (without {sorted(missing)[0]})"
    for index, row in enumerate(claimed.layers):
        place_of = f"mapping.layers.{index}"
        if row.initializer not in rows:
            yield place_of
        else:
            yield from differences(rows[row.initializer], row, place=place_of, exactness=exactness)
    if same_version:
        yield from differences(derived.unmapped, claimed.unmapped, place="mapping.unmapped")
    for name in ("total_devices", "total_tiles"):
        yield from differences(
            getattr(derived, name), getattr(claimed, name), place=f"mapping.{name}"
        )
