"""What a gate believes of a certificate, since only a network that is run could tell otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cimrobust.certificate.gate_evidence import EvidenceProblem
from cimrobust.certificate.result_names import CERTIFICATE, CERTIFIED, REPORT, TRIALS
from cimrobust.input_file import printable
from cimrobust.review.reasons_check import absences

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel

#: Claim that a signature settles.
MAKER = "maker"
_REPLAY = "`cimrobust replay --model --data`"


def believed(certificate: CertificateModel) -> Iterator[EvidenceProblem]:
    """Yield what no check of files can refute, with the command that can.

    Args:
        certificate: The certificate.
    """
    yield EvidenceProblem(
        "drawn_chips",
        f"no chip of {TRIALS} is drawn again: scores that were invented, or taken from a run of"
        f" another seed, pass where all that follows from them was changed too: {_REPLAY}",
    )
    yield EvidenceProblem(
        "scores",
        "neither network nor worst chip is run, nor is a worse one looked for:"
        f" {_REPLAY} --search quick",
    )
    if certificate.certified.score is not None:
        yield EvidenceProblem(
            "certified",
            f"no bound is computed again, so which samples {CERTIFIED} names may be invented:"
            f" {_REPLAY}",
        )
    if certificate.diagnostics is not None or certificate.monte_carlo.rare is not None:
        yield EvidenceProblem(
            "explained",
            "effects, diagnostics and rare failures are held to other numbers and to the profile"
            f" alone, so they may be of a run of another seed: {_REPLAY} --rerun",
        )
    missing = list(absences(certificate))
    if missing:
        yield EvidenceProblem(
            "reasons",
            f"why there is none of {', '.join(missing)} is taken as stated: {_REPLAY} --rerun",
        )
    yield EvidenceProblem(
        "page",
        f"{REPORT} is not made again, so it may show other numbers than {CERTIFICATE}:"
        " `cimrobust report` writes it anew",
    )
    made = f"{certificate.tool.name} {certificate.tool.version}"
    yield EvidenceProblem(
        MAKER,
        f"that {printable(made)[:80]} made it is taken as stated, and so are its day of"
        " issue, warnings and seconds: only a signature says who made it (--require-signature)",
    )
