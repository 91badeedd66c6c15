"""Diagnostics inside a whole run.

What they are asked, and what their patterns mean for the rest of the certificate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cimrobust.certify.counted_decisions import CountedDecisions
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.pattern_file import write_pattern
from cimrobust.search.witness import SAFETY_FILE

if TYPE_CHECKING:
    from cimrobust.attack.diagnosis_protocol import Diagnosis
    from cimrobust.certificate.policy import Policy
    from cimrobust.certify.bound_summary import Certification
    from cimrobust.data.task import Task
    from cimrobust.mapping.placement import Placement


def check_unbroken(task: Task, certification: Certification, diagnosis: Diagnosis) -> None:
    """Raise SelfCheckError if a diagnostic breaks a decision that is certified for the whole box.

    Args:
        task: The decisions.
        certification: What is certified of those that are counted.
        diagnosis: What diagnostics break, in the shape of the labels.
    """
    if certification.certified is None or diagnosis.broken is None:
        return
    decisions = CountedDecisions.of(task)
    both = certification.certified & decisions.part_of(diagnosis.broken)
    if both.any():
        raise SelfCheckError(
            "no chip of the box may break a certified sample, got sample"
            f" {decisions.samples[both][0]} broken by a diagnostic; report this"
        )


def write_safety_witness(folder: Path, placement: Placement, diagnosis: Diagnosis) -> None:
    """Write the pattern that is worst for the safety class, if there is one."""
    for outcome in diagnosis.outcomes:
        if outcome.name == "safety_class" and outcome.result is not None:
            write_pattern(folder / SAFETY_FILE, box_of(placement), outcome.result.deviations)


def worst_required(policy: Policy | None) -> float | None:
    """Return the score that a policy asks of the worst chip; None: it asks nothing."""
    return None if policy is None else next(policy.thresholds("worst_found_accuracy"), None)
