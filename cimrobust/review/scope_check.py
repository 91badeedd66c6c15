"""Assumptions and limits of a certificate, derived again from its profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.blocks.scope import Scope, assumptions, not_covered
from cimrobust.device.load_profile import profile_of
from cimrobust.review.differences import differences, named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck
from cimrobust.review.stated_layer import layer_profile

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


def scope_check(certificate: CertificateModel) -> ReplayCheck:
    """Check that no assumption and no limit was left out or worded otherwise.

    Those of another version of the tool may read otherwise, and are not compared.

    Args:
        certificate: The certificate.
    """
    if not is_of_today(certificate, certificate.tool):
        return ReplayCheck(
            "scope", None, "another version of the tool worded assumptions and limits: read them"
        )
    scope = _scope(certificate)
    wrong = [
        *differences(assumptions(scope), certificate.assumptions, place="assumptions"),
        *differences(not_covered(scope), certificate.not_covered, place="not_covered"),
    ]
    return ReplayCheck(
        "scope",
        not wrong,
        f"{len(certificate.assumptions)} assumptions and {len(certificate.not_covered)} limits"
        " follow from the profile"
        if not wrong
        else f"others follow at {named(wrong)}",
    )


def _scope(certificate: CertificateModel) -> Scope:
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    worst, converters, data = certificate.worst_found, certificate.converters, certificate.data
    return Scope(
        profile=profile,
        layers=tuple(
            (layer.initializer, layer_profile(layer, profile), layer.devices)
            for layer in certificate.mapping.layers
        ),
        has_converters=converters is not None,
        nodes_without=0 if converters is None else len(converters.digital),
        nodes_digital=len(certificate.mapping.unmapped),
        without_twin=None if worst.has_twin else str(worst.twin_reason),
        has_labels=data.label_source != "self",
        teacher=", ".join(data.labels_of or ()),
    )
