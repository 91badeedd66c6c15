"""The network that is programmed.

With quantised weights, and through converters where the profile has some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


def programmed_score(certificate: CertificateModel) -> float:
    """Return the score without deviation of the network that is programmed.

    It need not be the score of the model file.
    """
    return (
        certificate.clean.quantised_score
        if certificate.converters is None
        else certificate.converters.score
    )


def programmed_correct(certificate: CertificateModel) -> int | None:
    """Return its correct decisions; None for a regression."""
    return (
        certificate.clean.quantised_correct
        if certificate.converters is None
        else certificate.converters.correct
    )


def programmed_interval(certificate: CertificateModel) -> str:
    """Return the name of its row among the intervals of the evaluation set."""
    return "quantised" if certificate.converters is None else "converters"
