"""The search for the most probable failing chip on small nonlinear networks; where its answer is
known in closed form see tests/statistics.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.finished_parts import FinishedParts
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.reliability import most_probable as subject
from cimrobust.reliability.chip_file import write_chip
from cimrobust.reliability.likely_chip import PLANS, LikelySearch
from cimrobust.reliability.most_probable import most_probable
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import TwinStatus

Small = tuple[Runtime, Placement]


@pytest.fixture
def found(small: Small) -> LikelySearch:
    return most_probable(Subject(*small), Run(effort="quick"), below=0.9)


def test_the_chip_fails_and_is_nearer_than_any_failing_chip_that_is_drawn(small: Small) -> None:
    runtime, placement = small
    found = most_probable(Subject(*small), Run(effort="quick"), below=0.97)
    assert found.chip is not None
    assert found.num_wrong == 7
    weights = {
        name: tensor.nominal + found.chip.proof.deviations[name]
        for name, tensor in placement.tensors.items()
    }
    assert runtime.score(weights).value < 0.97
    drawn = [
        np.random.default_rng(number).standard_normal(found.chips.size).astype(np.float32)
        for number in range(200)
    ]
    norms = [
        float(np.linalg.norm(latents))
        for latents in drawn
        if runtime.score(found.chips.weights(latents)).value < 0.97
    ]
    assert len(norms) > 3
    assert found.chip.norm < 0.5 * min(norms)


def test_starts_are_told_with_what_they_cost(found: LikelySearch) -> None:
    names = [attempt.name for attempt in found.attempts]
    assert names == [
        "no deviation",
        "no deviation, nearest decisions first",
        "worst of 12 drawn chips",
    ]
    assert found.chip is not None
    assert (
        min(attempt.norm for attempt in found.attempts if attempt.norm is not None)
        <= found.chip.norm
    )
    assert (
        0
        < sum(attempt.passes for attempt in found.attempts)
        == found.spent.passes
        <= PLANS["quick"].passes
    )
    assert sum(attempt.evaluations for attempt in found.attempts) <= found.spent.evaluations


def test_no_chip_a_little_nearer_fails_in_its_neighbourhood(
    small: Small, found: LikelySearch
) -> None:
    """A local minimum, as far as random steps can tell: the norm cannot be lowered by 1 %."""
    runtime, _ = small
    assert found.chip is not None
    random = np.random.default_rng(0)
    for size in np.repeat([0.003, 0.01, 0.03], 40):
        changed = found.chip.latents + np.float32(
            size * found.chip.norm / np.sqrt(found.chips.size)
        ) * random.standard_normal(found.chips.size, dtype=np.float32)
        changed *= np.float32(0.99 * found.chip.norm / np.linalg.norm(changed))
        assert runtime.score(found.chips.weights(changed)).value >= 0.9


def test_the_worst_chip_found_is_a_start(small: Small) -> None:
    worst = search(Subject(*small), Run(seed=1, effort="quick"))
    found = most_probable(
        Subject(*small),
        Run(effort="quick"),
        below=0.6,
        known={"worst chip found": worst.deviations},
    )
    assert found.attempts[1].name == "worst chip found"
    assert found.attempts[1].norm is not None


def test_without_a_twin_only_rays_are_followed_and_that_is_said(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gradient = most_probable(Subject(*small), Run(effort="quick"), below=0.9)
    attack_set = np.arange(small[0].dataset.num_samples)
    monkeypatch.setattr(
        subject,
        "open_gradients",
        lambda *_, **__: TwinStatus(None, attack_set, "an operator has no gradient", ()),
    )
    worst = search(Subject(*small), Run(seed=1, effort="quick"))
    found = most_probable(
        Subject(*small),
        Run(effort="quick"),
        below=0.9,
        known={"worst chip found": worst.deviations},
    )
    assert not found.has_gradient
    assert found.gradient_reason == "an operator has no gradient"
    assert all(attempt.name.startswith("ray through") for attempt in found.attempts)
    assert found.chip is not None
    assert with_gradient.chip is not None
    assert found.chip.norm > with_gradient.chip.norm
    assert found.spent.passes == 0


def test_with_converters_the_crossbars_decide_whether_a_chip_fails(small: Small) -> None:
    plain, placement = small
    profile = replace(placement.profile, dac=DacTable(bits=6), adc=AdcTable(bits=7))
    scan = scan_layers(plain.network)
    placed = place(scan, profile)
    runtime = open_network(plain.network, scan, placed, plain.dataset, calibration=plain.dataset)
    found = most_probable(Subject(runtime, placed), Run(effort="quick"), below=0.8)
    assert found.chip is not None
    assert found.chip.proof.file_score is None
    levels = LatentChips(placed, as_levels=True).program(found.chip.latents)
    assert runtime.score(levels) == found.chip.proof.score
    assert found.chip.proof.score.value < 0.8


def test_the_file_holds_weights_and_latents(
    tmp_path: Path, small: Small, found: LikelySearch
) -> None:
    write_chip(tmp_path / "chip.safetensors", found)
    tensors = load_file(tmp_path / "chip.safetensors")
    assert found.chip is not None
    assert set(tensors) == {
        f"{name}.{part}"
        for name in small[1].tensors
        for part in ("nominal", "deviation", "latents")
    }
    squares = sum(
        float((tensors[f"{name}.latents"].astype(np.float64) ** 2).sum())
        for name in small[1].tensors
    )
    assert np.sqrt(squares) == pytest.approx(found.chip.norm)


def test_kept_starts_of_another_network_are_made_again(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = most_probable(
        Subject(*small), Run(effort="quick"), below=0.9, parts=FinishedParts(tmp_path, "a")
    )
    find = FinishedParts.find

    def longer(self: FinishedParts, name: str, kind: type, check: Any = None) -> Any:
        """As if a file held chips of more devices under the name of this run."""
        if kind is not subject.KeptAttempt or check is None:
            return find(self, name, kind, check)
        kept = find(self, name, kind)
        if kept is None or kept.attempt.latents is None:
            return kept
        more = replace(kept.attempt, latents=np.append(kept.attempt.latents, np.float32(0)))
        with pytest.raises(ValueError, match=f"chip must have {kept.attempt.latents.size} latents"):
            check(replace(kept, attempt=more))
        refused.append(name)
        return None

    refused: list[str] = []
    monkeypatch.setattr(FinishedParts, "find", longer)
    again = most_probable(
        Subject(*small), Run(effort="quick"), below=0.9, parts=FinishedParts(tmp_path, "a")
    )
    assert refused
    assert (again.chip is None) == (whole.chip is None)


def test_an_effort_that_does_not_exist_is_refused(small: Small) -> None:
    with pytest.raises(UsageError, match="effort must be one of"):
        most_probable(Subject(*small), Run(effort="endless"), below=0.9)
