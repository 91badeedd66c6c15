"""The largest safe tolerances of a sweep in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cimrobust.certificate.models.swept import SafeStatistical, SafeTolerances
from cimrobust.certificate.models.swept import SafeTolerance as SafeBlock
from cimrobust.tolerance_sweep import safe_result as safes
from cimrobust.tolerance_sweep.safe_result import SafeTolerance


@dataclass(frozen=True)
class Safe:
    """Largest safe tolerances for a required score."""

    required: float
    unrefuted: SafeTolerance
    statistical: SafeTolerance
    certified: SafeTolerance


def safe_tolerances(safe: Safe, metric: str, *, higher_is_better: bool) -> SafeTolerances:
    """Say what was found of the largest safe tolerances.

    Args:
        safe: What was found.
        metric: Name of the metric.
        higher_is_better: Direction of the metric.
    """
    required = f"{100 * safe.required:.4g} %" if metric == "accuracy" else f"{safe.required:.4g}"
    rule = f"{'at least' if higher_is_better else 'at most'} {required}"
    k = safes.PERCENT
    claims = {
        "unrefuted": f"no chip was found that misses {metric} {rule}; others may",
        "statistical": (
            f"all but {k:g} % of chips drawn as stated have {metric} {rule}, at"
            f" {100 * safes.CONFIDENCE:g} % confidence"
        ),
        "certified": f"every chip has {metric} {rule}, by proof",
    }
    found = safe.statistical
    return SafeTolerances(
        required=safe.required,
        unrefuted=SafeBlock(**_claim(safe.unrefuted, claims["unrefuted"])),
        statistical=SafeStatistical(
            **_claim(found, claims["statistical"]),
            k=k,
            confidence=safes.CONFIDENCE,
            fresh_trials=found.trials,
            test_confidence=found.confidence,
        ),
        certified=SafeBlock(**_claim(safe.certified, claims["certified"])),
    )


def _claim(found: SafeTolerance, claim: str) -> dict[str, Any]:
    if found.tolerance is None:
        statement = f"At no tolerance: {found.reason}."
    else:
        beyond = (
            "larger ones were not tried"
            if found.fails_at is None
            else f"not at {100 * found.fails_at:.4g} %"
        )
        statement = f"Up to a tolerance of {100 * found.tolerance:.4g} % {claim}; {beyond}."
    return {
        "tolerance": found.tolerance,
        "fails_at": found.fails_at,
        "reason": found.reason or None,
        "tried": list(found.tried),
        "statement": statement,
    }
