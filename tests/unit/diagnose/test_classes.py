"""Worst cases of single classes."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.attack.subject_parts import part_of
from cimrobust.data.class_samples import check_safety_class
from cimrobust.data.decision import Decision
from cimrobust.data.task import Task
from cimrobust.diagnose.classes import CLASSES
from cimrobust.diagnose.safety_class import SAFETY_CLASS
from cimrobust.engine.subject import Subject
from cimrobust.errors import UsageError
from cimrobust.mapping.box import box_of


def test_only_the_planted_class_breaks(one_fragile_class, request_of):
    runtime, placement = one_fragile_class
    rows = CLASSES.run(request_of(runtime, placement)).result.rows
    assert rows[0].label == 3
    assert [row.recall for row in rows] == [0.0, 1.0, 1.0, 1.0]
    assert rows[0].overall == 0.75
    assert rows[0].becomes in (0, 1, 2)
    assert rows[1].becomes is None


def test_recall_is_that_of_the_deployed_network(one_fragile_class, request_of):
    runtime, placement = one_fragile_class
    finding = CLASSES.run(request_of(runtime, placement))
    box = box_of(placement)
    for row in finding.result.rows:
        pattern = finding.patterns[f"class {row.label}"]
        box.check(pattern, origin="test")
        right = runtime.task.right(runtime.outputs(box.weights(pattern)))
        assert int(right[runtime.task.labels == row.label].sum()) == row.correct


def test_many_classes_are_probed_and_the_fragile_one_is_attacked(opened, request_of):
    text = """<ir_version: 8, opset_import: ["" : 13]> net (float[N, 14] x) => (float[N, 14] y) <float[14, 14] w> { y = MatMul(x, w) }"""  # noqa: E501
    scales = np.ones(14)
    scales[11] = 0.06
    labels = np.arange(70) % 14
    runtime, placement = opened(
        text,
        {"w": np.diag(scales).astype(np.float32)},
        {"x": np.eye(14, dtype=np.float32)[labels]},
        labels,
        tolerance=0.05,
    )
    found = CLASSES.run(request_of(runtime, placement)).result
    assert (len(found.rows), len(found.left_out), found.classes) == (10, 4, 14)
    assert found.rows[0].label == 11
    assert found.rows[0].recall == 0.0


def test_safety_class_is_searched_and_replayed(one_fragile_class, request_of):
    runtime, placement = one_fragile_class
    found = SAFETY_CLASS.run(request_of(runtime, placement, safety_class=3)).result
    assert (found.found.value, found.clean.value, found.found.num_samples) == (0.0, 1.0, 20)
    box_of(placement).check(found.deviations, origin="test")
    robust = SAFETY_CLASS.run(request_of(runtime, placement, safety_class=1)).result
    assert robust.found.value == 1.0


def test_without_a_class_it_says_so(small, request_of):
    assert "--safety-class" in SAFETY_CLASS.applies(request_of(*small))


def test_several_decisions_a_sample_have_no_safety_class():
    task = Task(Decision(), np.zeros((5, 2), dtype=np.int64), None, 2)
    with pytest.raises(
        UsageError, match="safety class needs one decision a sample, got samples with several"
    ):
        check_safety_class(task, 0)


@pytest.mark.parametrize("label", [4, -1])
def test_a_class_that_is_not_there_is_refused(small, label):
    with pytest.raises(UsageError, match="safety class must be a class with samples"):
        check_safety_class(small[0].task, label)


def test_part_of_a_runtime_scores_its_samples_only(small):
    runtime, placement = small
    part = np.flatnonzero(runtime.task.labels == 2)
    taken = part_of(Subject(runtime, placement), part).runtime
    corner = box_of(placement).weights(box_of(placement).random_corner(np.random.default_rng(0)))
    assert taken.nominal == runtime.score(placement.nominal(), subset=part)
    assert taken.score(corner) == runtime.score(corner, subset=part)
