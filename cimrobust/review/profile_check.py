"""The device profile of a certificate against the profile that it names.

A shipped one, or the reviewer's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cimrobust import __version__
from cimrobust.device.load_profile import list_profiles
from cimrobust.input_file import printable
from cimrobust.pipeline.resolved_profile import resolve_profile
from cimrobust.review.differences import differences, named
from cimrobust.review.named_arguments import named_arguments
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.review.evaluated import Evaluated


def profile_check(certificate: Evaluated, command: str, device: str | None) -> ReplayCheck:
    """Compare every key of the device profile.

    Args:
        certificate: The certificate, or a sweep.
        command: The command that it states.
        device: Name of a shipped profile, or a file; None: the shipped profile that the command of
            the certificate names, if there is one.

    Raises:
        UsageError: The profile given is wrong.
    """
    name = named_arguments(command).get("--device", "")
    wanted = device if device is not None else name if name in list_profiles() else None
    if wanted is None:
        return ReplayCheck(
            "device_profile",
            None,
            f"'{printable(name)[:100]}' is no shipped profile: `replay --device` compares it",
        )
    tolerance, digital = _changes(certificate)
    derived = resolve_profile(wanted, tolerance, digital).to_dict()
    wrong = list(differences(derived, certificate.device.profile, place="device.profile"))
    if not wrong:
        return ReplayCheck(
            "device_profile",
            True,
            f"every key is that of {wanted}, with the changes that the settings state",
        )
    if device is None and certificate.tool.version != __version__:
        return ReplayCheck(
            "device_profile",
            None,
            f"{wanted} of cimrobust {__version__} differs at {named(wrong)}: `replay --device`"
            " compares it",
        )
    return ReplayCheck("device_profile", False, f"{wanted} has other values of {named(wrong)}")


def _changes(certificate: Evaluated) -> tuple[float | None, Sequence[str]]:
    """Return the tolerance and the patterns of digital layers that the settings state."""
    tolerances = [setting.value for setting in certificate.settings if setting.key == "tolerance"]
    given = next((value for value in tolerances if isinstance(value, int | float)), None)
    digital = [
        str(setting.value)
        for setting in certificate.settings
        if setting.key == "digital" and setting.value is not None
    ]
    return (None if given is None else float(given)), digital
