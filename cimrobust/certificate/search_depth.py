"""How far the worst chip of a certificate was searched for, so that efforts can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate.policy_tables import EFFORTS
from cimrobust.search.search_budget import budget_of

if TYPE_CHECKING:
    from cimrobust.certificate.models import CertificateModel


def reaches(made: CertificateModel, effort: str) -> bool:
    """Tell whether a search did at least what an effort does; a shortened one did not its own."""
    return search_depth(made) >= EFFORTS.index(effort)


def search_depth(made: CertificateModel) -> float:
    """Return the place of a search among the efforts, half a place lower where it was shortened."""
    return EFFORTS.index(made.worst_found.effort) - (0.5 if shortened(made) else 0.0)


def shortened(made: CertificateModel) -> str:
    """Return the options by which a search is shorter than its effort; empty: it is whole."""
    budget = budget_of(made.worst_found.effort)
    whole = {
        "passes": budget.num_passes,
        "attack-samples": min(budget.max_samples, made.data.used),
    }
    return " ".join(
        f"--{row.key} {row.value}"
        for row in made.settings
        if row.key in whole and isinstance(row.value, int) and row.value < whole[row.key]
    )


def effort_in_words(made: CertificateModel) -> str:
    """Return the effort of a search, and what shortened it."""
    short = shortened(made)
    return f"{made.worst_found.effort}{f', shortened by {short}' if short else ''}"
