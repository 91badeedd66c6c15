"""Scores that a certificate states, against their counts and against its worst chip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

# Sums of float32 in another order, for errors; shares are counted.
_RTOL = 1e-6


def is_share(score: float, correct: int | None, samples: int) -> bool:
    """Tell whether a score is correct decisions over samples; one without a count is none.

    Args:
        score: The score, a fraction.
        correct: Its count; None: not counted.
        samples: Decisions that it counts.
    """
    return correct is None or (
        0 <= correct <= samples
        and (samples == 0 or math.isclose(score, correct / samples, rel_tol=1e-12, abs_tol=1e-15))
    )


def is_worse_than_found(certificate: CertificateModel, score: float, *, edge: int = 0) -> bool:
    """Tell whether a chip of the box is said to be worse than the worst chip found.

    A run takes over every worse chip that a diagnostic finds, so there is none.

    Args:
        certificate: The certificate.
        score: Score of the chip on all samples.
        edge: Decisions that may fall otherwise when samples are run in parts.
    """
    found, higher = certificate.worst_found.replay.engine_score, certificate.metric.higher_is_better
    slack = (
        (edge + 1e-6) / max(1, certificate.clean.samples)
        if certificate.metric.unit == "fraction"
        else _RTOL * abs(found)
    )
    return score < found - slack if higher else score > found + slack
