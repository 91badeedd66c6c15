"""Labels as they are stored, read as classes; what fits two readings or none is refused with the
key that settles it.
"""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import IGNORED, NO_DECISION, Decision, LabelReading
from cimrobust.data.fitted_task import make_task
from cimrobust.data.labels import class_indices, is_counted
from cimrobust.errors import UsageError

SCORES = np.eye(3)[[0, 1, 2, 1]]


def dataset(labels, decision=None, reading=None) -> DataSet:
    size = len(labels)
    source = DataSource("d", {}, {}, size)
    return DataSet(
        {"x": np.zeros((size, 1), np.float32)},
        {},
        np.asarray(labels),
        decision or Decision(),
        source,
        reading or LabelReading(),
    )


def right(labels, output=SCORES, decision=None, **reading) -> list[bool]:
    return (
        make_task(dataset(labels, decision, LabelReading(**reading)), output).right(output).tolist()
    )


def test_labels_that_count_from_one():
    assert right([1, 2, 3, 2], first=1) == [True] * 4


def test_listed_labels_are_in_the_order_of_the_scores():
    assert right([30, 10, 20, 10], classes=(30, 10, 20)) == [True] * 4


@pytest.mark.parametrize("kind", ["U", "S", "O"])
def test_text_is_looked_up_in_the_list_of_classes(kind):
    labels = np.array(["cat", "dog", "owl", "dog"]).astype(kind)
    assert right(labels, classes=("cat", "dog", "owl")) == [True] * 4


def test_labels_that_are_not_counted_are_marked_and_equal_no_decision():
    labels = np.array([[0, -100], [-100, 1]])
    assert class_indices(labels, LabelReading(ignore=(-100,))).tolist() == [
        [0, IGNORED],
        [IGNORED, 1],
    ]
    assert IGNORED != NO_DECISION
    assert is_counted(np.array([[5, 5], [5, 1]]), (5,)).tolist() == [False, True]


def test_ignored_labels_are_not_in_any_count():
    output = np.zeros((2, 3, 2))
    output[0, :, 1] = output[1, :, 0] = 1
    task = make_task(
        dataset([[1, 1, 255], [255, 0, 1]], Decision(), LabelReading(ignore=(255,))), output
    )
    assert (task.num_decisions, task.most_decisions) == (4, 3)
    assert task.score(output).count == 3
    assert task.confusion(output).tolist() == [[1, 0, 0], [1, 2, 0]]
    assert not task.right(output)[0, 2]
    broken = output.copy()
    broken[0, 2] = np.nan
    assert not task.broken(broken).any()


@pytest.mark.parametrize(
    ("labels", "reading", "text"),
    [
        (np.array(["a", "b", "c", "b"]), {}, r"got text such as 'a'.*\[label\] classes"),
        (
            np.array(["a", "b", "c", "z"]),
            {"classes": ("a", "b", "c")},
            r"labels must be among the 3 listed classes, got \['z'\]",
        ),
        ([1, 2, 3, 2], {}, r"count from 1 to 3, set \[label\] first = 1"),
        ([0, 1, 255, 1], {}, r"set \[label\] ignore = 255"),
        ([0, 1, -1, 1], {}, r"set \[label\] ignore = -1"),
        ([1, 2, 256, 2], {"first": 1}, r"in 1\.\.3, got 256"),
        ([1, 2, 255, 2], {"first": 1}, r"set \[label\] ignore = 255"),
        ([0, 1, 7, 1], {}, r"classes = \[\.\.\.\]"),
        (
            np.array([0, 1, 2, 2**63], np.uint64),
            {},
            r"labels must be below 2.*63, got 9223372036854775808",
        ),
        ([0, 1, 1.5, 2], {}, r"labels must be whole numbers, got fractions .*read = \"value\""),
    ],
)
def test_labels_of_another_coding_are_refused_with_the_key(labels, reading, text):
    with pytest.raises(UsageError, match=text):
        right(labels, **reading)


def test_labels_of_minus_one_and_one_are_listed():
    output = np.array([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(UsageError, match=r"classes = \[-1, 1\]"):
        right([-1, 1], output)
    assert right([-1, 1], output, classes=(-1, 1)) == [True, True]
    scores = np.array([[-0.5], [0.5]])
    assert right([-1, 1], scores, Decision(read="threshold", threshold=0.0), classes=(-1, 1)) == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (
            [[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]],
            r'1 of 4 rows with several ones or none.*read = "threshold"',
        ),
        ([[0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]], r'1 of 4 rows.*read = "threshold"'),
        ([[0.7, 0.2, 0.1]] * 4, r"one-hot, a single 1 among zeros, got 0\.7"),
        ([[1, -1, -1]] * 4, "one-hot, a single 1 among zeros, got -1"),
        (np.array([["a", "b", "c"]] * 4), "one-hot, a single 1 among zeros, got 'a'"),
    ],
)
def test_rows_that_are_not_one_hot_are_refused(labels, text):
    with pytest.raises(UsageError, match=text):
        right(labels)


def test_one_threshold_a_label():
    output = np.array([[0.4, 0.4], [0.6, 0.6]])
    decision = Decision(read="threshold", threshold=(0.3, 0.5))
    assert right([[1, 0], [1, 1]], output, decision) == [[True, True], [True, True]]
    with pytest.raises(UsageError, match="got 2 for shape"):
        right([[1, 0, 0]] * 4, SCORES, decision)
    square = np.zeros((1, 2, 2))
    with pytest.raises(UsageError, match=r"several axes fit.*\[decision\] axis"):
        right(np.zeros((1, 2, 2), int), square, decision)
    first = make_task(
        dataset(np.zeros((1, 2, 2), int), Decision(read="threshold", threshold=(0.3, 0.5), axis=1)),
        square,
    )
    assert first.threshold_of_each().tolist() == [0.3, 0.3, 0.5, 0.5]


def test_folders_must_be_the_classes_and_sort_as_their_numbers():
    folders = tuple(sorted(str(number) for number in range(11)))
    scores = np.eye(11)[:4]
    with pytest.raises(
        UsageError, match=r"sort as their numbers do, got 0, 1, 10.*\[label\] classes"
    ):
        right([0, 1, 2, 3], scores, folders=folders)
    with pytest.raises(
        UsageError, match=r"sub-folder for each of 11 classes, got 2: .*cat.*one part of the data"
    ):
        right([0, 1, 1, 0], scores, folders=("cat", "dog"))


def test_targets_for_classes_and_classes_for_targets():
    with pytest.raises(UsageError, match='read = "value"'):
        right([0.25, 1.5, 2.0, 1.0])
    with pytest.raises(UsageError, match="targets must be as many"):
        make_task(dataset([0, 1, 2, 1], Decision(read="value", metric="rmse")), SCORES)
    with pytest.raises(UsageError, match="targets must be as many"):
        make_task(
            dataset(np.zeros((4, 3, 2)), Decision(read="value", metric="rmse")), np.zeros((4, 2, 3))
        )
    with pytest.raises(UsageError, match="got text"):
        make_task(dataset(["a"] * 4, Decision(read="value", metric="rmse")), np.zeros((4, 1)))


def test_outputs_that_are_text_are_looked_up():
    output = np.array(["dog", "cat", "cow"], dtype=object)
    reading = LabelReading(classes=("cat", "dog"))
    task = make_task(
        dataset(np.array(["dog", "dog", "cat"]), Decision(read="label"), reading), output
    )
    assert task.decide(output).tolist() == [1, 0, NO_DECISION]
    assert task.score(output).count == 1
    with pytest.raises(UsageError, match=r"got text.*classes = \[\.\.\.\]"):
        make_task(dataset(np.array(["dog"] * 3), Decision(read="label")), output)
