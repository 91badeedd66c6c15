"""The network of a result, opened again on the devices and samples that the result states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.device.load_profile import profile_of
from cimrobust.input_file import printable
from cimrobust.mapping.decided import stored_layers
from cimrobust.pipeline.inspection import Inspection
from cimrobust.pipeline.opened_subject import open_examined
from cimrobust.review.stated_samples import calibration_samples, stated_samples

if TYPE_CHECKING:
    from cimrobust.engine.open import Runtime
    from cimrobust.onnx_io.network import Network
    from cimrobust.review.at_the_reviewer import Given
    from cimrobust.review.evaluated import Evaluated

_SettingValue = int | float | str | bool | None


def reopen_network(result: Evaluated, given: Given, *, workers: int) -> tuple[Inspection, Runtime]:
    """Open the network of a certificate or a sweep again, on its devices and samples.

    Args:
        result: The certificate or sweep.
        given: What is at hand: the network, and samples with their labels.
        workers: Threads; no result depends on it.

    Raises:
        CimrobustError: Network, devices and samples do not go together, or the network fails a
            check of its own.
    """
    network = given.network
    assert network is not None
    inspection = _inspection(result, network)
    dataset = stated_samples(result, given, network)
    calibrating = (
        calibration_samples(result, given, network)
        if inspection.placement.profile.needs_kernel
        else None
    )
    return inspection, open_examined(inspection, dataset, calibration=calibrating, workers=workers)


def missing_for_rerun(certificate: Evaluated, given: Given) -> str:
    """Return what is missing to open a run again; nothing where it can be."""
    if given.network is None or given.data is None:
        return "give --model and --data"
    needs_ranges = profile_of(certificate.device.profile, shown="certificate.json").needs_kernel
    calibration = _stated(certificate).get("calibration")
    if needs_ranges and calibration is not None and given.calibration is None:
        return (
            f"give --calibration: converters took their ranges from {printable(calibration)[:100]}"
        )
    return given.without_labels(certificate, given.samples(certificate, given.network.inputs))


def _inspection(certificate: Evaluated, network: Network) -> Inspection:
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    stored, scan = stored_layers(network, profile)
    return Inspection(stored, scan, profile)


def _stated(certificate: Evaluated) -> dict[str, _SettingValue]:
    return {setting.key: setting.value for setting in certificate.settings}
