"""Settings that a certificate states, against the parts that they decide, and its command."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cimrobust.certificate.blocks.reproduction import REPEATED, reproduction
from cimrobust.certificate.witness_check import witness_check
from cimrobust.certificate.wording import left_out
from cimrobust.review.differences import differences
from cimrobust.review.record_checks import is_of_today

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

# Words of the command in front of its settings.
_BEFORE = 9


def wrong_settings(certificate: CertificateModel) -> Iterator[str]:
    """Yield settings that the parts of a certificate contradict.

    Args:
        certificate: The certificate.
    """
    keys = [row.key for row in certificate.settings]
    if any(keys.count(key) > 1 for key in set(keys) - REPEATED):
        yield "settings"
    stated = {row.key: row.value for row in certificate.settings}
    for key, value in _decided(certificate).items():
        if key in stated and stated[key] != value:
            yield f"settings.{key}"
    yield from _wrong_presence(certificate, stated)
    if is_of_today(certificate, certificate.tool):
        yield from _wrong_reproduction(certificate)
        if stated.get("issued") != certificate.issued:
            yield "settings.issued"
        if certificate.seeds != {"run": certificate.monte_carlo.seed}:
            yield "seeds"


def _decided(certificate: CertificateModel) -> dict[str, object]:
    """Return the values of settings that stand elsewhere too."""
    drawn = certificate.monte_carlo
    stopping = drawn.stopping
    return {
        "effort": certificate.worst_found.effort,
        "seed": drawn.seed,
        "trials": drawn.trials if stopping is None else stopping.max_trials,
        "stop-early": stopping is not None,
    }


def _wrong_presence(certificate: CertificateModel, stated: Mapping[str, object]) -> Iterator[str]:
    """Yield parts that no setting asked for, and settings without the part that they ask for."""
    diagnostics, proven = certificate.diagnostics, certificate.certified
    safety = None if diagnostics is None else diagnostics.safety_class
    rare = certificate.monte_carlo.rare
    present = {"safety-class": safety is not None, "rare-below": rare is not None}
    for key, is_there in present.items():
        if is_there and key in stated and stated[key] is None:
            yield f"settings.{key}"
    if "policy" in stated and (stated["policy"] is None) is not (certificate.policy is None):
        yield "settings.policy"
    if rare is not None and "rare-below" in stated and rare.threshold != stated["rare-below"]:
        yield "settings.rare-below"
    skipped = {row.value for row in certificate.settings if row.key == "skip"}
    if "skip" in stated and ("certify" in skipped) is not (proven.reason == left_out("certify")):
        yield "settings.skip"


def _wrong_reproduction(certificate: CertificateModel) -> Iterator[str]:
    """Yield what another command or snippet than that of the settings is stated for."""
    claimed = certificate.reproduce
    words = shlex.split(claimed.command)
    if len(words) < _BEFORE:
        yield "reproduce.command"
        return
    again = reproduction(
        certificate.model.name,
        data=words[4],
        device=words[6],
        settings=certificate.settings,
        num_weights=sys.maxsize,
    )
    # Small witnesses are whole, those of large networks packed.
    if claimed.witness_check in (witness_check(0), again.witness_check):
        again = again.model_copy(update={"witness_check": claimed.witness_check})
    yield from differences(again, claimed, place="reproduce")
