"""Certified samples, rows of effects and tolerances of a sweep on workers: the same bits."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cimrobust.certify import batch_memory
from cimrobust.certify.bound_summary import Certification, certify_run
from cimrobust.certify.refusal import Refusal, lacks_memory
from cimrobust.cluster.address import Address
from cimrobust.cluster.executor import Executor, Item, Result, Task, Threads
from cimrobust.cluster.worker import Site
from cimrobust.engine.subject import Subject
from cimrobust.finished_parts import FinishedParts
from cimrobust.montecarlo.effect_costs import add_effects
from cimrobust.montecarlo.trial_identity import identity_of
from cimrobust.montecarlo.worker_opening import recipe_of
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.run import Run
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.tolerance_sweep.sweep_tolerances import SweepContext, draw_chips
from tests.interruptions import Interrupting, KillsAWorker

RUN = Run(0, 1, "quick")


@pytest.fixture(scope="module")
def named(samples: Path) -> SubjectSettings:
    model, data = samples / "breast_cancer_mlp.onnx", samples / "breast_cancer_mlp.toml"
    return SubjectSettings(model, data, limit=60)


@pytest.fixture(scope="module")
def subject(named: SubjectSettings) -> Subject:
    inspection = inspect_subject(named)
    return Subject(open_subject(named, inspection, workers=1), inspection.placement)


@pytest.fixture(scope="module")
def expected(subject: Subject) -> Certification:
    """What the threads of this process certify."""
    return certify_run(subject, RUN)


class Counting:
    """Threads that count the items they are given."""

    def __init__(self, subject: Subject) -> None:
        self._inner, self.items = Threads(subject, 2), 0

    def map_ordered(
        self, task: Task[Item, Result], items: Sequence[Item]
    ) -> Generator[Result, None, None]:
        for result in self._inner.map_ordered(task, items):
            self.items += 1
            yield result


def check_same(found: Certification, expected: Certification) -> None:
    assert expected.score is not None
    assert expected.certified is not None
    assert 0 < expected.certified.sum() < len(expected.certified)
    assert (found.score, found.curve, found.method) == (
        expected.score,
        expected.curve,
        expected.method,
    )
    for name in ("certified", "tried", "largest"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_processes_give_the_same_bits_where_one_is_killed(
    named: SubjectSettings, subject: Subject, expected: Certification
) -> None:
    identity = identity_of(subject.runtime, subject.placement, RUN.seed)
    site = Site.of(recipe_of(named, subject, RUN, identity), identity.digest)
    progress = KillsAWorker(2)
    with Address.parse("processes:2").open(site) as executor:
        assert isinstance(executor, Executor)
        run = Run(RUN.seed, 1, "quick", progress=progress)
        check_same(certify_run(subject, run, executor=executor), expected)
        assert progress.happened
        rows = add_effects(subject, RUN, num_chips=4, executor=executor)
        assert rows == add_effects(subject, RUN, num_chips=4)
        context = SweepContext(subject, RUN, FinishedParts())
        spread = SweepContext(subject, RUN, FinishedParts(), executor)
        for tolerance in (0.1, 0.02):
            found = draw_chips(spread, tolerance, trials=5, seed=3).value
            np.testing.assert_array_equal(
                found, draw_chips(context, tolerance, trials=5, seed=3).value
            )


def test_an_interrupted_bound_goes_on_to_the_same_bits_wherever_it_is_taken(
    subject: Subject, expected: Certification, tmp_path: Path
) -> None:
    parts, whole, rest = FinishedParts(tmp_path, "run"), Counting(subject), Counting(subject)
    certify_run(subject, RUN, executor=whole)
    with pytest.raises(KeyboardInterrupt):
        certify_run(subject, Run(0, 1, "quick", progress=Interrupting(3)), parts=parts)
    check_same(certify_run(subject, RUN, parts=parts, executor=rest), expected)
    assert 0 < rest.items < whole.items


def test_a_worker_without_memory_costs_the_bound_alone(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poor(Counting):
        def map_ordered(
            self, task: Task[Item, Result], items: Sequence[Item]
        ) -> Generator[Result, None, None]:
            monkeypatch.setattr(batch_memory, "available_memory", lambda: 1)
            yield from super().map_ordered(task, items)

    found = certify_run(subject, RUN, executor=Poor(subject))
    assert isinstance(found.refusal, Refusal)
    assert lacks_memory(str(found.refusal))
    assert "must fit into the memory of a worker" in str(found.refusal)
