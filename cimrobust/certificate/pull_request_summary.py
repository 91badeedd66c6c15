"""The outcome of a gate or an analysis as Markdown, for pull requests and pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certificate.certificate_files import atomic_text
from cimrobust.certificate.markdown_text import code, code_block, escaped
from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.certificate.gate_outcome import Finding, GateOutcome
    from cimrobust.certificate.models import CertificateModel

_MARKS = {"met": "met", "refuted": "**REFUTED**", "open": "**open**"}
_ORDER = ("refuted", "open", "met")
# A step's summary on GitHub has at most 1 MiB; a row has at most some 2,000 characters.
_MOST_ROWS = 200
_PROVEN = "proven for every chip inside the tolerance, on these samples"


def write_summary(outcome: GateOutcome, path: Path) -> None:
    """Write an outcome as a Markdown file.

    Raises:
        UsageError: The place cannot be written to.
    """
    atomic_text(path, summary_markdown(outcome))


def append_summary(outcome: GateOutcome, path: Path) -> None:
    """Append an outcome to a Markdown file that other steps write to as well.

    Raises:
        UsageError: The place cannot be written to.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"{summary_markdown(outcome)}\n")
    except OSError as err:
        raise UsageError(
            f"summary must be writable, got {err.strerror} ({path}); choose another file"
        ) from err


def summary_markdown(outcome: GateOutcome) -> str:
    """Return an outcome as Markdown; the same for the same outcome.

    Verdict, numbers, every requirement with those that do not hold first, the worst chip found, and
    how to replay it. Text of files is escaped: it shows as it is, and makes no markup.
    """
    model = code(outcome.certificate.model.name)
    parts = [
        f"## cimrobust {outcome.command}: {escaped(outcome.word)} for {model}\n",
        f"{escaped(outcome.sentence, most=2000)}\n",
        "\n".join(_numbers(outcome.certificate)) + "\n",
        "\n".join(_rows(list(outcome.findings())[:-1])) + "\n",
        *_worst_chip(outcome),
        *_not_checked(outcome),
        "### Replay\n",
        code_block(outcome.replay_command(), "sh"),
        "\n".join(_digests(outcome)),
    ]
    return "\n".join(parts) + "\n"


def _numbers(certificate: CertificateModel) -> Iterator[str]:
    metric = escaped(certificate.metric.name)
    drawn, proof = certificate.monte_carlo, certificate.certified
    yield f"| {metric} | score | |"
    yield "|---|---:|---|"
    clean = certificate.clean
    yield f"| model file | {_number(clean.score)} | {certificate.data.used} samples |"
    yield f"| programmed without deviation | {_number(clean.quantised_score)} | |"
    yield f"| average chip | {_number(drawn.mean)} | {drawn.trials} drawn chips |"
    for entry in drawn.kpp:
        bound = (
            "no bound"
            if entry.lower_bound is None
            else f"bound {_number(entry.lower_bound)} at {100 * entry.confidence:g} % confidence"
        )
        yield f"| all but the worst {entry.k:g} % of chips | {_number(entry.score)} | {bound} |"
    worst = certificate.worst_found
    yield f"| worst chip found | {_number(worst.score)} | {escaped(worst.effort)} search |"
    reason = _PROVEN if proof.score is not None else escaped(proof.reason or "")
    yield f"| certified | {_number(proof.score)} | {reason} |"


def _rows(findings: list[Finding]) -> Iterator[str]:
    if not findings:
        return
    yield "| status | requirement | asked | found | margin | evidence |"
    yield "|---|---|---:|---:|---:|---|"
    ordered = sorted(findings, key=lambda finding: _ORDER.index(finding.status))
    for finding in ordered[:_MOST_ROWS]:
        row = finding.row
        numbers = [None] * 3 if row is None else [row.threshold, row.found, row.margin]
        cells = [
            _mark(finding),
            f"{code(finding.id)} {escaped(finding.asked)}",
            *("" if number is None else f"{number:.6g}" for number in numbers),
            escaped(finding.sentence),
        ]
        yield f"| {' | '.join(cells)} |"
    left = len(ordered) - _MOST_ROWS
    if left > 0:
        yield f"\nAnd {left} more, all of them {ordered[_MOST_ROWS].status} or better."


def _mark(finding: Finding) -> str:
    """Return the status; no chip refutes a condition, it does not hold."""
    if finding.kind == "condition" and finding.status != "met":
        return "**not met**"
    return _MARKS[finding.status]


def _worst_chip(outcome: GateOutcome) -> Iterator[str]:
    certificate = outcome.certificate
    device = code(certificate.device.profile.get("name", ""))
    yield "### Worst chip found\n"
    yield (
        f"{escaped(certificate.metric.name)} {_number(certificate.worst_found.score)} on {device}"
        f" with a write-verify tolerance of {100 * certificate.device.tolerance_fraction:.4g} %."
        f" The chip: {code(outcome.witness)}\n"
    )


def _not_checked(outcome: GateOutcome) -> Iterator[str]:
    """Yield what the verdict believes."""
    claims = () if outcome.result is None else outcome.result.not_checked
    if claims:
        yield "### Not checked\n"
        yield "\n".join(f"- {code(claim.id)}: {escaped(claim.detail)}" for claim in claims) + "\n"


def _digests(outcome: GateOutcome) -> Iterator[str]:
    """Yield the digests that bind the summary to its files."""
    stated = {
        "certificate": outcome.certificate.file_sha256,
        "witness": outcome.witness_sha256,
        "policy": None if outcome.result is None else outcome.result.policy.sha256,
        **{file.name: file.sha256 for file in outcome.certificate.model.files},
    }
    for name, digest in stated.items():
        if digest:
            yield f"- {code(name)} sha256 {code(digest)}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
