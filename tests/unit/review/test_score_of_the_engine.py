"""The file of a witness may score a little better than the engine did; members keep their rows."""

from __future__ import annotations

from pathlib import Path

from cimrobust import Certificate
from cimrobust.certificate.models import CertificateModel
from cimrobust.review.consistency import consistency_checks

REPORT = Path(__file__).parents[3] / "reports" / "breast_cancer_mlp"


def with_engine(fewer: int, member_fewer: int) -> CertificateModel:
    """Return a certificate whose engine counted fewer right decisions than the witness's file."""
    made = Certificate.read(REPORT).record
    worst = made.worst_found
    assert worst.correct is not None

    def score(less: int) -> dict[str, float | int]:
        return {
            "score": (worst.correct - less) / worst.samples,
            "correct": worst.correct - less,
        }

    engine = worst.replay.model_copy(update={"engine_score": score(fewer)["score"]})
    first = worst.members[0].model_copy(update=score(member_fewer))
    changed = worst.model_copy(update={"replay": engine, "members": (first, *worst.members[1:])})
    return made.model_copy(update={"worst_found": changed})


def refuted(certificate: CertificateModel) -> list[str]:
    return [check.detail for check in consistency_checks(certificate) if check.held is False]


def test_members_may_be_as_bad_as_the_engine_found_the_witness():
    assert refuted(with_engine(1, 1)) == []


def test_no_member_may_be_worse_than_the_engine_found_the_witness():
    assert refuted(with_engine(1, 2)) == ["contradicted at worst_found.members"]
    assert refuted(with_engine(0, 1)) == ["contradicted at worst_found.members"]
