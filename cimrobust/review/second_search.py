"""A short search of the reviewer's own: the only thing that refutes a tame witness."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cimrobust.review.replay_check import ReplayCheck
from cimrobust.search.ensemble import search

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel, Metric
    from cimrobust.pipeline.opened_analysis import OpenedAnalysis

# A second search with another seed may find a slightly worse chip than an honest first one. More
# than this is no chance.
_MORE_LOSS = 1.25
_DECISIONS = 2


def second_search_check(
    certificate: CertificateModel, opened: OpenedAnalysis, *, effort: str, seed: int
) -> ReplayCheck:
    """Search the box again, with another seed and nothing known beforehand.

    A chip that loses over a quarter more than the worst one of the certificate refutes it; one that
    is a little worse is told of and refutes nothing, as a certificate states the worst chip found,
    not the worst there is.

    Args:
        certificate: The certificate.
        opened: The analysis, opened again.
        effort: Of the search: ``quick``, ``standard`` or ``thorough``.
        seed: The reviewer's.
    """
    # Whole, however short the search of the certificate was.
    asked = replace(opened.run, effort=effort, seed=seed, passes=None, attack_samples=None)
    found = search(opened.subject, asked)
    claimed = certificate.worst_found.score
    detail = (
        f"a search of effort {effort} and seed {seed} finds a chip that scores"
        f" {found.score.value:.6g}, the certificate's worst scores {claimed:.6g}"
    )
    worse = much_worse(
        claimed,
        found.score.value,
        nominal=opened.runtime.nominal.value,
        metric=certificate.metric,
        samples=certificate.clean.samples,
    )
    if worse:
        return ReplayCheck("second_search", False, f"{detail}: the claimed worst chip is tame")
    if worse is None:
        return ReplayCheck(
            "second_search",
            None,
            f"{detail}: a little worse, which refutes no certificate but belongs into the next",
        )
    return ReplayCheck("second_search", True, detail)


def much_worse(
    claimed: float, found: float, *, nominal: float, metric: Metric, samples: int
) -> bool | None:
    """Tell whether a chip that was found now is much worse than the worst one claimed.

    None: it is worse, but by no more than chance explains.

    Args:
        claimed: Score of the worst chip claimed.
        found: Score of the chip found now.
        nominal: Score without deviation.
        metric: What a score is.
        samples: Decisions that a score counts.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    loss, claimed_loss = sign * (nominal - found), sign * (nominal - claimed)
    edge = _DECISIONS / max(1, samples) if metric.unit == "fraction" else 0.0
    if loss > _MORE_LOSS * max(claimed_loss, 0.0) + edge:
        return True
    return None if loss > claimed_loss else False
