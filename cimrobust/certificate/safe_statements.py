"""The largest safe tolerances of a sweep in words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cimrobust.certificate.models.swept import SafeStatistical, SafeTolerances
from cimrobust.certificate.models.swept import SafeTolerance as SafeBlock
from cimrobust.tolerance_sweep import safe_result as safes

if TYPE_CHECKING:
    from cimrobust.tolerance_sweep.safe_result import SafeTolerance


def safe_tolerances(
    required: float,
    *,
    unrefuted: SafeTolerance,
    statistical: SafeTolerance,
    certified: SafeTolerance,
    metric: str,
    higher_is_better: bool,
) -> SafeTolerances:
    """Say what was found of the largest safe tolerances.

    Args:
        required: Score that is required.
        unrefuted: Where no chip was found that misses it.
        statistical: Where all but few drawn chips keep it.
        certified: Where every chip keeps it, by proof.
        metric: Name of the metric.
        higher_is_better: Direction of the metric.
    """
    shown = f"{100 * required:.4g} %" if metric == "accuracy" else f"{required:.4g}"
    rule = f"{'at least' if higher_is_better else 'at most'} {shown}"
    k = safes.PERCENT
    claims = {
        "unrefuted": f"no chip was found that misses {metric} {rule}; others may",
        "statistical": (
            f"all but {k:g} % of chips drawn as stated have {metric} {rule}, at"
            f" {100 * safes.CONFIDENCE:g} % confidence"
        ),
        "certified": f"every chip has {metric} {rule}, by proof",
    }
    return SafeTolerances(
        required=required,
        unrefuted=SafeBlock(**_claim(unrefuted, claims["unrefuted"])),
        statistical=SafeStatistical(
            **_claim(statistical, claims["statistical"]),
            k=k,
            confidence=safes.CONFIDENCE,
            fresh_trials=statistical.trials,
            test_confidence=statistical.confidence,
        ),
        certified=SafeBlock(**_claim(certified, claims["certified"])),
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
