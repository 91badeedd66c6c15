"""Every way to write the labels of an output gives the same task or a refusal that names a key,
never another score.
"""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cimrobust.data.class_logits import decisive_logits, have_decision
from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import IGNORED, Decision, LabelReading
from cimrobust.data.failure import margins_of
from cimrobust.data.fitted_task import make_task
from cimrobust.data.task import Task
from cimrobust.errors import UsageError
from cimrobust.search.losses import margins
from cimrobust.search.readout import decide, decisive

SIZES = st.integers(1, 4)
# A loaded machine draws slowly; that says nothing about the code.
UNHURRIED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def dataset(
    labels: np.ndarray | None, size: int, decision: Decision, reading: LabelReading
) -> DataSet:
    return DataSet(
        {"x": np.zeros((size, 1), np.float32)},
        {},
        labels,
        decision,
        DataSource("d", {}, {}, size),
        reading,
    )


@st.composite
def outputs(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Scores without ties, and their class axis."""
    shape = [draw(SIZES), *draw(st.lists(SIZES, min_size=1, max_size=3))]
    axis = draw(st.integers(1, len(shape) - 1))
    shape[axis] = draw(st.integers(2, 5))
    order = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).permutation(int(np.prod(shape)))
    return order.reshape(shape).astype(np.float64), axis


def spelled(
    draw: st.DataObject, classes: np.ndarray, num_classes: int, axis: int
) -> tuple[np.ndarray, LabelReading]:
    """Write classes by index in another way."""
    how = draw.draw(
        st.sampled_from(["index", "float", "first", "numbers", "text", "one_hot", "flat", "thin"])
    )
    if how == "float":
        return classes.astype(np.float32), LabelReading()
    if how == "first":
        return classes + 7, LabelReading(first=7)
    if how == "numbers":
        listed = tuple(5 * index - 3 for index in range(num_classes))
        return np.asarray(listed)[classes], LabelReading(classes=listed)
    if how == "text":
        names = tuple(f"class {num_classes - index}" for index in range(num_classes))
        return np.asarray(names)[classes], LabelReading(classes=names)
    if how == "one_hot":
        return np.moveaxis(np.eye(num_classes)[classes], -1, axis), LabelReading()
    if how == "flat":
        return classes.reshape(len(classes), -1), LabelReading()
    return classes[..., None] if how == "thin" else classes, LabelReading()


@UNHURRIED
@given(outputs(), st.data())
def test_every_spelling_of_the_right_labels_scores_one_or_is_refused_with_a_key(made, data):
    output, axis = made
    classes = output.argmax(axis=axis)
    labels, reading = spelled(data, classes, output.shape[axis], axis)
    named = data.draw(st.booleans())
    decision = Decision(axis=axis) if named else Decision()
    others = [
        other
        for other in range(1, output.ndim)
        if other != axis and output.shape[other] == output.shape[axis]
    ]
    if (
        not named
        and others
        and make_task(
            dataset(labels, len(output), Decision(axis=axis), reading), output
        ).num_decisions
    ):
        # The same labels may fit an axis that is as long; then one of both is not taken, but asked
        # for.
        with contextlib.suppress(UsageError):
            assert make_task(dataset(labels, len(output), decision, reading), output).axis == axis
        return
    task = make_task(dataset(labels, len(output), decision, reading), output)
    assert task.axis == axis
    assert task.score(output).value == 1.0
    assert task.labels.tolist() == classes.tolist()


@UNHURRIED
@given(outputs(), st.integers(0, 2**32 - 1))
def test_ignoring_labels_counts_the_others_as_before(made, seed):
    output, axis = made
    classes = output.argmax(axis=axis)
    generator = np.random.default_rng(seed)
    labels = (classes + generator.integers(0, 2, classes.shape)) % output.shape[axis]
    whole = make_task(dataset(labels, len(output), Decision(axis=axis), LabelReading()), output)
    is_out = generator.random(labels.shape) < 0.4
    is_out.reshape(len(labels), -1)[:, 0] = False  # some decision of every sample is counted
    task = make_task(
        dataset(
            np.where(is_out, -100, labels),
            len(output),
            Decision(axis=axis),
            LabelReading(ignore=(-100,)),
        ),
        output,
    )
    assert task.num_decisions == int((~is_out).sum())
    assert task.score(output).count == int(whole.right(output)[~is_out].sum())
    assert (
        margins_of(task, output).tolist() == margins_of(whole, output)[~is_out.reshape(-1)].tolist()
    )
    assert task.confusion(output).sum() == task.num_decisions


SPECIAL = st.sampled_from([-np.inf, np.inf, np.nan, 0.0, 1.0, -1.0, 1e30, -1e30])
ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(2, 5)),
    elements=st.one_of(SPECIAL, st.floats(-4, 4, width=16)),
)


@UNHURRIED
@given(ROWS, st.data())
def test_rows_decide_the_same_in_numpy_torch_and_by_rank(rows, data):
    k = data.draw(st.integers(1, rows.shape[1] - 1))
    labels = np.asarray(
        data.draw(
            st.lists(st.integers(0, rows.shape[1] - 1), min_size=len(rows), max_size=len(rows))
        )
    )
    exact = rows.astype(np.float64)
    made = decisive_logits(exact, labels, k=k)
    twin = decisive(torch.from_numpy(exact), torch.from_numpy(labels), k=k)
    np.testing.assert_array_equal(made, twin.numpy())
    task = Task(Decision(read="topk", k=k) if k > 1 else Decision(), labels, 1, rows.shape[1])
    own = exact[np.arange(len(rows)), labels]
    legal = have_decision(exact)
    ahead = [
        (row > mine).sum() + (row[:label] == mine).sum()
        for row, mine, label in zip(exact, own, labels, strict=True)
    ]
    expected = legal & (np.asarray(ahead) < k) & ~np.isneginf(own)
    assert task.right(exact).tolist() == expected.tolist()
    assert (decide(made) == labels).tolist() == expected.tolist()
    found = margins_of(task, exact)
    assert ((found > 0) == expected).all()
    assert np.isfinite(found[legal]).all()
    assert torch.isfinite(margins(twin, torch.from_numpy(labels))[torch.from_numpy(legal)]).all()


@UNHURRIED
@given(ROWS)
def test_without_nan_and_infinity_decisions_are_those_of_numpy(rows):
    task = Task(Decision(), np.zeros(len(rows), np.int64), 1, rows.shape[1])
    legal = have_decision(rows.astype(np.float64))
    assert task.decide(rows)[legal].tolist() == rows.argmax(axis=1)[legal].tolist()
    assert (task.decide(rows)[~legal] != IGNORED).all()


@UNHURRIED
@given(ROWS, st.integers(1, 2))
def test_gradients_of_rows_with_masked_classes_are_finite(rows, k):
    legal = rows[have_decision(rows.astype(np.float64))]
    if not len(legal) or rows.shape[1] <= k:
        return
    leaf = torch.from_numpy(legal.astype(np.float64)).requires_grad_()
    labels = torch.zeros(len(legal), dtype=torch.int64)
    margin = margins(decisive(leaf, labels, k=k), labels)
    (gradient,) = torch.autograd.grad(torch.sigmoid(-margin).sum(), leaf)
    assert torch.isfinite(gradient).all()
