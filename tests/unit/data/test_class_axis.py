"""The class axis of an output, and what -infinity, NaN and the k best mean in a row of scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.data.class_axis import AxisHint
from cimrobust.data.dataset import DataSet, DataSource, StoredOutput
from cimrobust.data.decision import NO_DECISION, Decision, LabelReading
from cimrobust.data.failure import margins_of
from cimrobust.data.findings import check_clean
from cimrobust.data.fitted_task import make_task
from cimrobust.errors import ModelNotCoveredError, UsageError

GENERATOR = np.random.default_rng(3)


def dataset(labels, size, decision=None, reading=None) -> DataSet:
    labels = None if labels is None else np.asarray(labels)
    source = DataSource("d", {}, {}, size)
    return DataSet(
        {"x": np.arange(size, dtype=np.float32)[:, None]},
        {},
        labels,
        decision or Decision(),
        source,
        reading or LabelReading(),
    )


@pytest.mark.parametrize(
    ("shape", "labels"), [((4, 5, 5), (4, 5)), ((4, 3, 3, 2), (4, 3, 2)), ((4, 5, 5), (4, 5, 1))]
)
def test_labels_that_fit_two_axes_are_refused_with_the_key(shape, labels):
    with pytest.raises(
        UsageError, match=r"and labels of shape .* fit each; say which: \[decision\] axis = 2 or 1"
    ):
        make_task(dataset(np.zeros(labels, int), 4), np.zeros(shape))


def test_the_axis_that_is_named_is_taken():
    output = GENERATOR.normal(size=(4, 5, 5))
    for axis in (1, 2, -1):
        labels = output.argmax(axis=axis)
        assert make_task(dataset(labels, 4, Decision(axis=axis)), output).score(output).value == 1.0


@pytest.mark.parametrize("shape", [(8, 6, 3), (8, 3, 4, 5), (8, 2, 2)])
def test_own_decisions_along_several_axes_are_refused(shape):
    with pytest.raises(
        UsageError, match=r"and the labels do not tell; say which: \[decision\] axis|several"
    ):
        make_task(dataset(None, 8), np.zeros(shape))


def test_axes_of_length_one_are_no_classes():
    output = GENERATOR.normal(size=(6, 4, 1, 1))
    task = make_task(dataset(None, 6), output)
    assert (task.axis, task.num_classes, task.labels.shape) == (1, 4, (6, 1, 1))
    assert (
        make_task(dataset(output.argmax(axis=1).reshape(6), 6), output).score(output).value == 1.0
    )


def test_transposed_labels_are_refused_and_flat_ones_are_taken_row_by_row():
    output = GENERATOR.normal(size=(2, 3, 4, 5))
    labels = output.argmax(axis=1)
    with pytest.raises(UsageError, match="one class for each"):
        make_task(dataset(labels.transpose(0, 2, 1), 2), output)
    assert make_task(dataset(labels.reshape(2, 20), 2), output).score(output).value == 1.0


def test_one_hot_labels_of_every_position():
    output = GENERATOR.normal(size=(2, 6, 3))
    labels = np.eye(3, dtype=int)[output.argmax(axis=2)]
    task = make_task(dataset(labels, 2), output)
    assert (task.axis, task.score(output).value) == (2, 1.0)
    with pytest.raises(UsageError, match="say which"):
        make_task(dataset(np.eye(3, dtype=int)[None], 1), output[:1, :3])


def stored(output, name="", size=None) -> DataSet:
    made = dataset(None, len(output) if size is None else size)
    return replace(
        made,
        labels=output,
        reading=LabelReading(kind="stored"),
        stored={0: StoredOutput(name, output)},
    )


def test_stored_outputs_are_decided_on_along_the_axis_of_the_network():
    output = GENERATOR.normal(size=(4, 3, 4, 5))
    task = make_task(stored(output), output, hint=AxisHint(1, "Conv 'y'"))
    assert (task.labels.shape, task.axis_reason) == ((4, 4, 5), "Conv 'y'")
    assert task.score(output).value == 1.0
    with pytest.raises(UsageError, match=r"\[decision\] axis"):
        make_task(stored(output), output)
    with pytest.raises(UsageError, match="stored outputs must have the shape"):
        make_task(stored(output[:, :2]), output, hint=AxisHint(1, "Conv 'y'"))


def test_the_stored_output_is_that_of_the_decision():
    both = replace(
        dataset(None, 2, reading=LabelReading(kind="stored")),
        stored={
            0: StoredOutput("first", np.zeros((2, 3))),
            1: StoredOutput("second", np.ones((2, 4))),
        },
    )
    assert both.for_output("second", 1).labels.shape == (2, 4)
    with pytest.raises(
        UsageError, match=r"must include the decision output 'third', got \['first', 'second'\]"
    ):
        both.for_output("third", 1)
    with pytest.raises(UsageError, match="one entry a sample"):
        stored(np.zeros((5, 3)), "y", size=2).for_output("y", 0)


def test_minus_infinity_is_the_score_of_a_class_that_is_never_chosen():
    output = np.array([[0.0, 1.0, -np.inf], [-np.inf, -np.inf, 3.0], [1.0, -np.inf, 0.5]])
    task = make_task(dataset([1, 2, 2], 3), output)
    assert task.decide(output).tolist() == output.argmax(axis=1).tolist()
    margins = margins_of(task, output)
    assert np.isfinite(margins).all()
    assert ((margins > 0) == task.right(output)).all()


@pytest.mark.parametrize("row", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_other_scores_that_are_not_finite_decide_nothing(row):
    output = np.array([row, [0.0, 1.0]])
    task = make_task(dataset([0, 1], 2), output)
    assert task.decide(output).tolist() == [NO_DECISION, 1]
    assert task.broken(output).tolist() == [True, False]
    assert margins_of(task, output)[0] == -np.inf


def test_the_lowest_score_wins_with_the_signs_turned():
    output = np.array([[0.0, np.inf], [-np.inf, 1.0]])
    assert make_task(dataset([0, 0], 2, Decision(read="argmin")), output).decide(
        output
    ).tolist() == [0, NO_DECISION]


def test_thresholds_of_scores_that_are_not_finite():
    output = np.array([[-np.inf], [np.inf], [np.nan]])
    task = make_task(dataset([0, 1, 1], 3, Decision(read="threshold", threshold=0.5)), output)
    assert task.decide(output).tolist() == [0, NO_DECISION, NO_DECISION]


def test_the_label_among_the_best_is_right():
    output = np.array(
        [[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    )
    task = make_task(dataset([1, 2, 1, 2], 4, Decision(read="topk", k=2)), output)
    assert task.right(output).tolist() == [True, False, True, False]
    assert task.decide(output).tolist() == [1, 0, 1, 0]
    assert margins_of(task, output)[:2].tolist() == [1.0, -1.0]
    with pytest.raises(UsageError, match="k must be less than the number of classes"):
        make_task(dataset([1, 2, 1, 2], 4, Decision(read="topk", k=4)), output)


def test_a_network_without_decisions_is_refused_and_one_with_some_is_counted():
    output = np.array([[np.nan, 0.0]] * 3 + [[0.0, 1.0]])
    task = make_task(dataset([1, 0, 1, 1], 4), output)
    (warning,) = check_clean(task, dataset([1, 0, 1, 1], 4), output)
    assert "3 of 4 decisions" in warning
    assert "NaN (3)" in warning
    with pytest.raises(ModelNotCoveredError, match=r"got NaN \(3\) in all 3 decisions"):
        check_clean(make_task(dataset([1, 0, 1], 3), output[:3]), dataset([1, 0, 1], 3), output[:3])


def test_values_that_are_not_finite_are_counted_too():
    output = np.array([[np.inf], [1.0]])
    decision = Decision(read="value", metric="mae")
    (warning,) = check_clean(
        make_task(dataset([0.0, 1.0], 2, decision), output),
        dataset([0.0, 1.0], 2, decision),
        output,
    )
    assert "1 of 2 values" in warning
    assert "infinite (1)" in warning


def test_labels_that_seem_to_count_from_one_are_refused_unless_the_description_says_they_do_not():
    labels = GENERATOR.integers(1, 3, size=40)
    output = np.eye(4)[labels - 1] + GENERATOR.random((40, 4)) * 0.1
    for first in (None, 0):
        data = dataset(labels, 40, reading=LabelReading(first=first))
        task = make_task(data, output)
        if first is None:
            with pytest.raises(UsageError, match=r"set \[label\] first = 1, or first = 0"):
                check_clean(task, data, output)
        else:
            (warning,) = check_clean(task, data, output)
            assert "right in 0 of 40 decisions" in warning
    few = dataset(labels[:2], 2)
    (warning,) = check_clean(make_task(few, output[:2]), few, output[:2])
    assert "If they count from 1, set [label] first = 1" in warning


@pytest.mark.parametrize(("num_right", "said"), [(12, True), (13, False), (30, False), (0, True)])
def test_a_clean_network_no_better_than_one_answer_is_named(num_right, said):
    labels = np.concatenate([np.zeros(12, int), np.ones(10, int), np.full(8, 2)])
    output = np.eye(4)[np.where(np.arange(30) < num_right, labels, 3)]
    data = dataset(labels, 30, reading=LabelReading(first=0))
    found = check_clean(make_task(data, output), data, output)
    told = [text for text in found if "for all would be in 12" in text]
    assert len(told) == int(said)
    for text in told:
        assert f"is right in {num_right} of 30 decisions, and the answer 0 for all" in text
        assert "Input 'x' gets whole numbers as they are stored" in text


def test_an_input_without_elements_holds_no_bytes():
    """As the past of a decoder that has seen nothing."""
    labels, output = np.arange(12) % 3, np.eye(4)[np.full(12, 3)]
    data = dataset(labels, 12, reading=LabelReading(first=0))
    data = replace(data, inputs={"past": np.empty((12, 0, 4), np.float32)})
    found = check_clean(make_task(data, output), data, output)
    assert any("right in 0 of 12" in text for text in found)
    assert not any("whole numbers" in text for text in found)


def test_numbers_that_a_step_scales_are_not_taken_for_bytes():
    labels, output = np.arange(12) % 3, np.eye(4)[np.full(12, 3)]
    data = dataset(labels, 12, reading=LabelReading(first=0))
    steps = {"x": ({"op": "divide", "value": 2},)}
    data = replace(data, source=replace(data.source, steps=steps))
    found = check_clean(make_task(data, output), data, output)
    assert not any("whole numbers" in text for text in found)


def test_outputs_and_decisions_that_are_all_the_same_are_named():
    labels = np.arange(12) % 3
    same = np.tile(np.array([[0.0, 1.0, 0.0]]), (12, 1))
    assert (
        "the same for all 12 samples"
        in check_clean(make_task(dataset(labels, 12), same), dataset(labels, 12), same)[0]
    )
    near = same + GENERATOR.random((12, 3)) * 0.1
    assert (
        "All 12 decisions"
        in check_clean(make_task(dataset(labels, 12), near), dataset(labels, 12), near)[0]
    )
