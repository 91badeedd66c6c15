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
    from cimrobust.certificate.models import CertificateModel, Data, Model

_DIGEST = re.compile("[0-9a-f]{64}")


def item_check(certificate: CertificateModel) -> ReplayCheck:
    """Check that what identifies network, data and policy is there, and can be read.

    Args:
        certificate: The certificate.
    """
    model, data, digest = certificate.model, certificate.data, certificate.policy_sha256
    wrong = [*wrong_digests(model, data), *_wrong_curve(certificate)]
    if digest is not None and not _DIGEST.fullmatch(digest):
        wrong.append("policy_sha256")
    if is_of_today(certificate, certificate.tool):
        wrong += [
            *wrong_decision(model, data, certificate.clean.samples),
            *_wrong_policy(certificate),
        ]
    return ReplayCheck(
        "item",
        not wrong,
        "network, data and policy are identified"
        if not wrong
        else f"missing, or of no run: {named(wrong)}",
    )


def wrong_digests(model: Model, data: Data) -> Iterator[str]:
    """Yield files of network and data without a digest, or without a name of their own.

    Args:
        model: The network, as a result states it.
        data: The evaluation data, likewise.
    """
    digests = {f"model.files.{index}": file.sha256 for index, file in enumerate(model.files)}
    digests |= {f"data.files.{name}": digest for name, digest in data.files.items()}
    digests |= {f"data.labels_of.{name}": one for name, one in (data.labels_of or {}).items()}
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


def wrong_decision(model: Model, data: Data, samples: int) -> Iterator[str]:
    """Yield what of the reading of an output is that of no run.

    Args:
        model: The network, as a result states it.
        data: The evaluation data, likewise.
        samples: Decisions that scores count.
    """
    decision = data.decision
    if decision.read not in get_args(Read):
        yield "data.decision.read"
    if (decision.k is None) is (decision.read == "topk"):
        yield "data.decision.k"
    if (decision.threshold is None) is (decision.read == "threshold"):
        yield "data.decision.threshold"
    if not set(data.steps) <= {one.name for one in model.inputs}:
        yield "data.steps"
    if data.broken is None or data.broken > samples:
        yield "data.broken"


def _wrong_policy(certificate: CertificateModel) -> Iterator[str]:
    given = (certificate.policy, certificate.policy_file, certificate.policy_sha256)
    if len({part is None for part in given}) > 1:
        yield "policy_sha256"
    stated = [row.value for row in certificate.settings if row.key == "policy"]
    if stated and stated[0] != certificate.policy_file:
        yield "policy_file"
