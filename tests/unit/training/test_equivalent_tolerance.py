"""The write-verify tolerance at which a network as it is would be as good as a re-trained one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import cimrobust
from cimrobust.certificate.result_names import WITNESS
from cimrobust.data.load_dataset import load_data
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.pipeline.resolved_profile import resolve_profile
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.training import equivalent_tolerance as equivalent
from cimrobust.training.training_records import Equivalent

STATED, TARGET = 0.2, 0.9


@pytest.fixture(scope="module")
def old(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate of the network as it is."""
    out = tmp_path_factory.mktemp("old")
    name = samples / "breast_cancer_mlp"
    cimrobust.analyze(
        name.with_suffix(".onnx"),
        data=name.with_suffix(".toml"),
        out=out,
        tolerance=STATED,
        effort="quick",
        trials=10,
        diagnostics="none",
        workers=1,
    )
    return out


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Scores of the searches that were run."""
    scores: list[float] = []

    def counted(subject, run):
        found = search(subject, run)
        scores.append(found.score.value)
        return found

    monkeypatch.setattr(equivalent, "search", counted)
    return scores


def equal_to(samples: Path, old: Path, target: float, **changes) -> Equivalent:
    network = load_network(samples / "breast_cancer_mlp.onnx")
    profile = resolve_profile("rram-write-verify-3pct", STATED)
    return equivalent.equivalent_tolerance(
        network,
        replace(profile, **changes),
        load_data(samples / "breast_cancer_mlp.toml", inputs=network.inputs),
        Run(),
        target=target,
        witness=old / WITNESS,
    )


def test_nothing_worse_is_found_at_the_tolerance_and_something_just_above(samples, old, searches):
    answer = equal_to(samples, old, TARGET)
    held = answer.tolerance
    assert answer.reason is None
    assert STATED / 32 < held < STATED
    network = load_network(samples / "breast_cancer_mlp.onnx")
    scan, profile = scan_layers(network), resolve_profile("rram-write-verify-3pct", STATED)
    runtime = open_network(
        network,
        scan,
        place(scan, profile),
        load_data(samples / "breast_cancer_mlp.toml", inputs=network.inputs),
    )

    def worst(tolerance: float) -> float:
        return search(
            Subject(runtime, place(scan, with_tolerance(profile, tolerance))),
            Run(seed=0, effort="quick"),
        ).score.value

    assert worst(held) >= TARGET
    # Five halvings of a factor of 32 leave a factor of 32 ** (1 / 32).
    assert worst(held * 32 ** (2 / 32)) < TARGET


def test_a_chip_that_is_known_to_break_the_network_spares_the_search(samples, old, searches):
    answer = equal_to(samples, old, TARGET)
    # Two ends and five steps between them are asked about; the witness answers for the stated end.
    assert 1 <= len(searches) < 7
    assert max(searches) >= TARGET
    assert answer.effort == "quick"


def test_a_network_that_is_as_good_already_needs_no_tighter_write_verify(samples, old):
    assert equal_to(samples, old, 0.0) == Equivalent(
        tolerance=STATED,
        effort="quick",
        reason="the old network is as good at the stated tolerance",
    )


def test_a_target_out_of_reach_is_said_to_be(samples, old, searches):
    answer = equal_to(samples, old, 1.0)
    assert answer.tolerance is None
    assert answer.reason.startswith("the old network is worse even at 0.625 %")
    assert len(searches) < 2


def test_witness_with_cells_that_training_does_not_see_is_left_out(samples, old, searches):
    profile = resolve_profile("rram-write-verify-3pct", STATED)
    dense = equal_to(samples, old, TARGET, tile=replace(profile.tile, grouped="dense"))
    with_search = len(searches)
    assert dense.reason is None
    equal_to(samples, old, TARGET)
    assert len(searches) - with_search < with_search
