"""Requirements that ask for nothing: whatever a run finds, it meets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.programmed import programmed_score
from cimrobust.certificate.wording import ABSURD

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.policy_tables import CostTable, KppRequirement, RequireRow


def asks_nothing(row: RequireRow, cost: CostTable | None) -> str:
    """Return why a requirement asks for nothing, as far as the policy alone tells.

    Nothing where it asks for something.

    Args:
        row: The requirement.
        cost: Costs of the policy; None: 1 for every wrong decision.
    """
    if row.kpp is not None and (reason := _weak_percentile(row.kpp)):
        return reason
    if row.kind == "no_worse_than_baseline":
        return ""
    if row.cost is not None:
        most = 1.0 if cost is None else cost.largest
        return (
            f"no decision costs more than {most:g}, so every chip keeps {row.cost:g}"
            if row.cost >= most
            else ""
        )
    if row.threshold > 0:
        return ""
    return (
        "every chip keeps a recall of 0"
        if row.safety_class is not None
        else "every chip keeps an accuracy of 0, and none has an error of 0"
    )


def _weak_percentile(kpp: KppRequirement) -> str:
    if kpp.confidence < 0.5:
        return f"confidence {kpp.confidence:g} is less than that of a coin's toss"
    if kpp.k / 100 >= kpp.confidence:
        return (
            f"with k = {kpp.k:g} % at confidence {kpp.confidence:g} a single drawn chip is enough"
        )
    return ""


def asks_nothing_here(
    row: RequireRow,
    cost: CostTable | None,
    certificate: CertificateModel,
    baseline: CertificateModel | None,
) -> str:
    """Return why a requirement asks for nothing of the network of a certificate.

    Nothing where it asks for something.

    Args:
        row: The requirement.
        cost: Costs of the policy; None: 1 for every wrong decision.
        certificate: The certificate, whose metric and numbers tell more than the policy.
        baseline: The certificate that it is compared with; None: it is not.
    """
    if reason := asks_nothing(row, cost):
        return reason
    if row.no_worse_than_baseline is not None:
        return _no_comparison(row.no_worse_than_baseline, certificate, baseline)
    if row.cost is not None or row.safety_class is not None:
        return ""
    if certificate.metric.higher_is_better:
        one = 1 / max(1, certificate.clean.samples)
        return "one correct decision is enough" if row.threshold <= one else ""
    scale = programmed_score(certificate) or certificate.worst_found.score
    if scale > 0 and row.threshold > ABSURD * scale:
        return (
            f"it allows more than {ABSURD:g} times the error without deviation, which a network"
            " that has learnt nothing keeps"
        )
    return ""


def _no_comparison(
    slack: float, certificate: CertificateModel, baseline: CertificateModel | None
) -> str:
    """Return why a comparison with a baseline asks for nothing."""
    if baseline is None:
        return ""
    scores = (programmed_score(baseline), baseline.worst_found.score)
    if certificate.metric.higher_is_better:
        return (
            f"no accuracy is {slack:g} below that of the baseline" if slack >= max(scores) else ""
        )
    return (
        f"it allows errors {ABSURD:g} times those of the baseline"
        if 0 < ABSURD * max(scores) < slack
        else ""
    )
