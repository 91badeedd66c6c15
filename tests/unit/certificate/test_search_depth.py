"""A search that was shortened does not count as one of its effort."""

from __future__ import annotations

import pytest

from cimrobust.certificate.models import CertificateModel
from cimrobust.certificate.models.item import Setting
from cimrobust.certificate.search_depth import effort_in_words, reaches, search_depth
from tests.unit.certificate.test_verdict import certificate


def stating(**settings: int) -> CertificateModel:
    rows = tuple(
        Setting(key=key.replace("_", "-"), value=value, is_default=False)
        for key, value in settings.items()
    )
    made = certificate(effort="standard")
    return made.model_copy(update={"settings": [*made.settings, *rows]})


@pytest.mark.parametrize("settings", [{}, {"passes": 595}, {"attack_samples": 100}])
def test_a_whole_search_reaches_its_effort(settings: dict[str, int]) -> None:
    made = stating(**settings)
    assert reaches(made, "standard")
    assert effort_in_words(made) == "standard"


@pytest.mark.parametrize("settings", [{"passes": 594}, {"attack_samples": 99}])
def test_a_shortened_one_reaches_the_effort_below(settings: dict[str, int]) -> None:
    made = stating(**settings)
    assert reaches(made, "quick")
    assert not reaches(made, "standard")
    assert search_depth(made) < search_depth(stating())
    assert "standard, shortened by --" in effort_in_words(made)
