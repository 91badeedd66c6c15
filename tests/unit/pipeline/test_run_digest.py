"""Parts of an interrupted analysis are taken over only where all they depend on is the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from cimrobust.engine.subject import Subject
from cimrobust.pipeline.resuming import RESUME, open_parts, run_digest
from cimrobust.run import Run
from tests.unit.search.conftest import MLP, Opener, mlp_weights, opened, samples  # noqa: F401


@dataclass(frozen=True)
class Part:
    number: int


@pytest.fixture
def subject(opened: Opener) -> Subject:  # noqa: F811
    return Subject(*opened(MLP, mlp_weights(), {"x": samples(12, 6)}))


def test_a_digest_is_that_of_what_changes_results(subject: Subject, opened: Opener) -> None:  # noqa: F811
    run = Run(1, effort="quick")
    kept = run_digest(subject, run)
    same = (replace(run, workers=3), replace(run, memory="4GB"), replace(run, time_limit=60.0))
    assert {run_digest(subject, other) for other in same} == {kept}
    others = (
        replace(run, seed=2),
        replace(run, effort="standard"),
        replace(run, passes=40),
        replace(run, attack_samples=5),
    )
    subjects = (
        opened(MLP, mlp_weights(2), {"x": samples(12, 6)}),
        opened(MLP, mlp_weights(), {"x": samples(13, 6)}),
        opened(MLP, mlp_weights(), {"x": samples(12, 6)}, tolerance=0.04),
    )
    found = [run_digest(subject, other) for other in others]
    found += [run_digest(Subject(*other), run) for other in subjects]
    assert len({kept, *found}) == 1 + len(others) + len(subjects)


def test_parts_lie_below_the_folder_of_the_result(subject: Subject, tmp_path: Path) -> None:
    out = tmp_path / "out"
    parts = open_parts(subject, Run(1), out=out, resume=False)
    assert parts.recall("part", Part, lambda: Part(1)) == Part(1)
    assert list((out / RESUME).iterdir())
    again = open_parts(subject, Run(1), out=out, resume=True)
    assert again.recall("part", Part, lambda: Part(2)) == Part(1)
    anew = open_parts(subject, Run(1), out=out, resume=False)
    assert anew.recall("part", Part, lambda: Part(3)) == Part(3)
