"""Digests, decision and bound that a certificate states, in a form that no run leaves out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, get_args

from cimrobust.data.decision import Read
from cimrobust.review.differences import named
from cimrobust.review.record_checks import is_of_today
from cimrobust.review.replay_check import ReplayCheck

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

_DIGEST = re.compile("[0-9a-f]{64}")


def item_check(certificate: CertificateModel) -> ReplayCheck:
    """Check that what identifies network, data and policy is there, and can be read.

    Args:
        certificate: The certificate.
    """
    wrong = [*_wrong_digests(certificate), *_wrong_curve(certificate)]
    if is_of_today(certificate, certificate.tool):
        wrong += [*_wrong_decision(certificate), *_wrong_policy(certificate)]
    return ReplayCheck(
        "item",
        not wrong,
        "network, data and policy are identified"
        if not wrong
        else f"missing, or of no run: {named(wrong)}",
    )


def _wrong_digests(certificate: CertificateModel) -> Iterator[str]:
    model, data = certificate.model, certificate.data
    digests = {f"model.files.{index}": file.sha256 for index, file in enumerate(model.files)}
    digests |= {f"data.files.{name}": digest for name, digest in data.files.items()}
    digests |= {f"data.labels_of.{name}": one for name, one in (data.labels_of or {}).items()}
    if certificate.policy_sha256 is not None:
        digests["policy_sha256"] = certificate.policy_sha256
    yield from (place for place, digest in digests.items() if not _DIGEST.fullmatch(digest))
    names = [file.name for file in model.files]
    if not names or len(set(names)) < len(names):
        yield "model.files"


def _wrong_curve(certificate: CertificateModel) -> Iterator[str]:
    """Yield where the certified scores are not those of growing boxes, up to the stated one."""
    proven = certificate.certified
    sizes = [point.box_size for point in proven.curve]
    if any(later <= one for one, later in pairwise(sizes)) or (sizes and sizes[-1] != 1.0):
        yield "certified.curve"
    if (proven.score is None) is not (proven.method is None):
        yield "certified.method"


def _wrong_decision(certificate: CertificateModel) -> Iterator[str]:
    data, decision = certificate.data, certificate.data.decision
    if decision.read not in get_args(Read):
        yield "data.decision.read"
    if (decision.k is None) is (decision.read == "topk"):
        yield "data.decision.k"
    if (decision.threshold is None) is (decision.read == "threshold"):
        yield "data.decision.threshold"
    if not set(data.steps) <= {one.name for one in certificate.model.inputs}:
        yield "data.steps"
    if data.broken is None or data.broken > certificate.clean.samples:
        yield "data.broken"


def _wrong_policy(certificate: CertificateModel) -> Iterator[str]:
    given = (certificate.policy, certificate.policy_file, certificate.policy_sha256)
    if len({part is None for part in given}) > 1:
        yield "policy_sha256"
    stated = [row.value for row in certificate.settings if row.key == "policy"]
    if stated and stated[0] != certificate.policy_file:
        yield "policy_file"
