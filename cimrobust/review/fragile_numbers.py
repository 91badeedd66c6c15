"""Inputs that break first and inputs that flip, against the decisions that are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from cimrobust.certificate.programmed import programmed_correct
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.device.load_profile import profile_of
from cimrobust.diagnose.diagnose_records import MOST_FRAGILE, OWN_CHIP

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel
    from cimrobust.certificate.models.found import FlippedInput
    from cimrobust.diagnose.diagnose_records import FragileInput, FragileInputs

# A share of a deviation is rounded to float32.
_ROUNDING = 1 + 1e-5
# The diagnostic that may find a worse chip after inputs were broken by the worst one.
_LATER = "diagnostic_write_verify"


def wrong_flipped(certificate: CertificateModel) -> Iterator[str]:
    """Yield what of the inputs that flip the counts and the table of decisions contradict.

    Args:
        certificate: The certificate.
    """
    worst, clean = certificate.worst_found, certificate.clean
    made = worst.flipped
    if made is None:
        return
    place, rows = "worst_found.flipped", worst.confusion
    # The chip is run in the engine; its file may round a decision the other way.
    wrong = worst.samples - round(worst.replay.engine_score * worst.samples)
    right = clean.samples if clean.correct is None else clean.correct
    if not max(right - (worst.samples - wrong), len(made.rows)) <= made.count <= min(right, wrong):
        yield f"{place}.count"
    samples = [row.sample for row in made.rows]
    if not samples or len(set(samples)) < len(samples) or max(samples) >= certificate.data.used:
        yield f"{place}.rows"
    turned = Counter((row.label, row.becomes) for row in made.rows)
    for (label, becomes), count in turned.items():
        if label == becomes or (rows is not None and not _counts(rows, label, becomes) >= count):
            yield f"{place}.rows"
    for index, row in enumerate(made.rows):
        is_wrong = row.worst_margin is not None and row.worst_margin > 0
        if is_wrong or (row.margin is not None and row.margin < 0):
            yield f"{place}.rows.{index}.margin"


def _counts(rows: list[list[int]], label: int, becomes: int) -> int:
    """Return how many decisions of a label become another, -1: none at all."""
    if not 0 <= label < len(rows) or not -1 <= becomes < len(rows):
        return 0
    return rows[label][becomes]


def wrong_fragile_inputs(certificate: CertificateModel) -> Iterator[str]:
    """Yield what of the inputs that break first does not go together.

    Args:
        certificate: The certificate.
    """
    made = None if certificate.diagnostics is None else certificate.diagnostics.fragile_inputs
    if made is None:
        return
    profile = profile_of(certificate.device.profile, shown="certificate.json")
    widest = tolerance_fraction(profile)
    found = [*_wrong_counts(certificate, made)]
    labels = {row.sample: row.label for row in _shown(certificate)}
    for index, row in enumerate(made.rows):
        found += [f"rows.{index}.{name}" for name in _wrong_row(made, row, widest)]
        if labels.get(row.sample, row.label) != row.label:
            found.append(f"rows.{index}.label")
    yield from (f"diagnostics.fragile_inputs.{name}" for name in found)


def _shown(certificate: CertificateModel) -> list[FlippedInput]:
    flipped = certificate.worst_found.flipped
    return [] if flipped is None else flipped.rows


def _wrong_counts(certificate: CertificateModel, made: FragileInputs) -> Iterator[str]:
    right, worst = programmed_correct(certificate), certificate.worst_found
    if made.right != right:
        yield "right"
    kept = round(worst.replay.engine_score * worst.samples)
    least = 0 if worst.member == _LATER else made.right - kept
    if not least <= made.broken <= made.right:
        yield "broken"
    listed, samples = len(made.rows), [row.sample for row in made.rows]
    if (
        listed > MOST_FRAGILE
        or listed > made.broken + made.own_chips
        or (listed < MOST_FRAGILE and listed < made.broken)
        or len(set(samples)) < listed
        or any(sample >= certificate.data.used for sample in samples)
        or any(later.breaks_at < one.breaks_at for one, later in pairwise(made.rows))
    ):
        yield "rows"
    if len(set(made.patterns)) < len(made.patterns) or not made.patterns:
        yield "patterns"
    if made.own_chips > 2 * MOST_FRAGILE:
        yield "own_chips"


def _wrong_row(made: FragileInputs, row: FragileInput, widest: float) -> Iterator[str]:
    if not 0 < row.breaks_at <= widest * _ROUNDING:
        yield "breaks_at"
    if row.becomes == row.label:
        yield "becomes"
    if row.pattern not in {*made.patterns, OWN_CHIP}:
        yield "pattern"
    if row.margin is not None and row.margin < 0:
        yield "margin"
    if (row.certified_to is None) is (made.bound_reason is None):
        yield "certified_to"
    # A chip that breaks it is no chip that it is proven against.
    if row.certified_to is not None and not 0 <= row.certified_to <= row.breaks_at * _ROUNDING:
        yield "certified_to"
