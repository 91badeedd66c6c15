"""A short search of the reviewer's own: the only thing that refutes a tame witness."""

from __future__ import annotations

from cimrobust.certificate.models import CertificateModel
from cimrobust.pipeline.stages import Run
from cimrobust.review.check import ReplayCheck
from cimrobust.search.ensemble import search

# A second search with another seed may find a slightly worse chip than an honest first one. More than this is no chance.
_MORE_LOSS = 1.25
_DECISIONS = 2


def second_search_check(certificate: CertificateModel, run: Run, *, effort: str, seed: int) -> ReplayCheck:
    """Search the box again, with another seed and nothing known beforehand.

    A chip that loses over a quarter more than the worst one of the certificate refutes it; one that is a little worse is told of and refutes nothing,
    as a certificate states the worst chip found, not the worst there is.

    Args:
        certificate: The certificate.
        run: The run, opened again.
        effort: Of the search: ``quick``, ``standard`` or ``thorough``.
        seed: The reviewer's.
    """
    found = search(
        run.runtime,
        run.placement,
        effort=effort,
        seed=seed,
        workers=run.settings.workers,
        progress=run.progress,
        known={},
        device_type=run.request.device_type,
    )
    claimed, nominal = certificate.worst_found.score, run.runtime.nominal.value
    sign = 1.0 if certificate.metric.higher_is_better else -1.0
    loss, claimed_loss = sign * (nominal - found.score.value), sign * (nominal - claimed)
    detail = f"a search of effort {effort} and seed {seed} finds a chip that scores {found.score.value:.6g}, the certificate's worst scores {claimed:.6g}"
    edge = _DECISIONS / certificate.clean.samples if certificate.metric.unit == "fraction" else 0.0
    if loss > _MORE_LOSS * max(claimed_loss, 0.0) + edge:
        return ReplayCheck("second_search", False, f"{detail}: the claimed worst chip is tame")
    if loss > claimed_loss:
        return ReplayCheck("second_search", None, f"{detail}: a little worse, which refutes no certificate but belongs into the next")
    return ReplayCheck("second_search", True, detail)
