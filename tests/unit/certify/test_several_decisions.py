"""Several decisions a sample: segments, tokens, labels beside each other; some not counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.certify.bound_batch import Batch, _Spread
from cimrobust.certify.bound_summary import certify_run
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.certify.decision_margins import Reading
from cimrobust.data.decision import IGNORED, Decision
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from tests.unit.certify.test_soundness import random_chips
from tests.unit.search.conftest import Opener

HEAD = '<ir_version: 8, opset_import: ["" : 13]> net '
#: Body with shapes of input and output, stored weights, how it is decided, decisions of a sample.
TASKS: dict[str, tuple[str, dict[str, tuple[int, ...]], tuple[int, ...], Decision, int]] = {
    "segments": (
        HEAD + "(float[N, 2, 4, 4] x) => (float[N, 3, 4, 4] y)"
        " { h = Conv<pads=[1,1,1,1]>(x, w) r = Relu(h) y = Conv(r, v) }",
        {"w": (6, 2, 3, 3), "v": (3, 6, 1, 1)},
        (2, 4, 4),
        Decision(axis=1),
        16,
    ),
    "tokens": (
        HEAD + "(float[N, 5, 4] x) => (float[N, 5, 3] y)"
        " { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }",
        {"w": (4, 8), "v": (8, 3)},
        (5, 4),
        Decision(axis=2),
        5,
    ),
    "segments of shares": (
        HEAD + "(float[N, 2, 4, 4] x) => (float[N, 3, 4, 4] y)"
        " { h = Conv<pads=[1,1,1,1]>(x, w) r = Relu(h) z = Conv(r, v) y = LogSoftmax<axis=1>(z) }",
        {"w": (6, 2, 3, 3), "v": (3, 6, 1, 1)},
        (2, 4, 4),
        Decision(axis=1),
        16,
    ),
    "tokens of shares": (
        HEAD + "(float[N, 5, 4] x) => (float[N, 5, 3] y)"
        " { h = MatMul(x, w) r = Relu(h) z = MatMul(r, v) y = Softmax<axis=-1>(z) }",
        {"w": (4, 8), "v": (8, 3)},
        (5, 4),
        Decision(axis=2),
        5,
    ),
    "labels": (
        HEAD + "(float[N, 6] x) => (float[N, 4] y)"
        " { h = MatMul(x, w) r = Tanh(h) z = MatMul(r, v) y = Sigmoid(z) }",
        {"w": (6, 8), "v": (8, 4)},
        (6,),
        Decision(read="threshold", threshold=0.4),
        4,
    ),
}


def opened_task(opened: Opener, name: str, count: int = 6) -> tuple[Runtime, Placement]:
    text, shapes, shape, decision, _decisions = TASKS[name]
    random = np.random.default_rng(3)
    weights = {
        key: (1.5 * random.normal(size=size) / np.sqrt(np.prod(size[1:]))).astype(np.float32)
        for key, size in shapes.items()
    }
    x = random.normal(size=(count, *shape)).astype(np.float32)
    body = text.replace(") ", ")\n")
    runtime, _ = opened(body, weights, {"x": x}, decision=decision)
    labels = runtime.task.decide(runtime.clean_output).copy()
    labels.reshape(count, -1)[1, :2] = IGNORED
    labels.reshape(count, -1)[2, 1] = (labels.reshape(count, -1)[2, 1] + 1) % 2
    return opened(body, weights, {"x": x}, labels, decision=decision)


@pytest.mark.parametrize("name", TASKS)
def test_no_chip_breaks_a_certified_decision(opened: Opener, name: str) -> None:
    runtime, placement = opened_task(opened, name)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    assert network.num_decisions == runtime.task.num_decisions == 6 * TASKS[name][4] - 2
    sizes = largest_certified_tolerance(network)
    right = network.decisions.part_of(runtime.task.right(runtime.clean_output))
    assert (sizes > 0).sum() >= 0.7 * right.sum()
    assert not sizes[~right].any()
    for size in np.unique(sizes[sizes > 0])[::3]:
        for chip in random_chips(placement, float(size), 6):
            still = network.decisions.part_of(runtime.task.right(runtime.outputs(chip)))
            assert still[sizes >= size].all()


@pytest.mark.parametrize("name", TASKS)
def test_a_decision_is_bounded_as_if_it_were_the_only_one(opened: Opener, name: str) -> None:
    network = open_bounds(*opened_task(opened, name))
    assert isinstance(network, BoundedNetwork)
    all_of_them = certify(network, scale=0.2)
    some = np.arange(3, network.num_decisions, 4)
    np.testing.assert_array_equal(
        certify(network, scale=0.2, samples=some).certified, all_of_them.certified[some]
    )


@pytest.mark.parametrize("name", TASKS)
def test_the_certified_score_counts_decisions(opened: Opener, name: str) -> None:
    runtime, placement = opened_task(opened, name)
    found = certify_run(Subject(runtime, placement), Run(effort="quick", workers=1))
    assert found.score is not None
    assert found.certified is not None
    assert found.score.num_samples == runtime.task.num_decisions == len(found.certified)
    assert found.score.count == found.certified.sum() > 0


def test_forms_name_the_scores_of_a_decision() -> None:
    shape = torch.Size((2, 3, 2, 2))
    form, offset = Reading("y", "classes", axis=1).forms(
        torch.tensor([2, 0]), shape, torch.tensor([1, 2])
    )
    assert form.shape == (2, *shape)
    assert not offset.any()
    expected = torch.zeros(2, *shape, dtype=torch.float64)
    expected[:, 0, 2, 0, 1] = 1.0
    expected[0, 0, 0, 0, 1] = expected[1, 0, 1, 0, 1] = -1.0
    expected[:, 1, 0, 1, 0] = 1.0
    expected[0, 1, 1, 1, 0] = expected[1, 1, 2, 1, 0] = -1.0
    assert torch.equal(form, expected)


def test_each_label_has_its_own_threshold() -> None:
    form, offset = Reading("y", "threshold", thresholds=(0.1, 0.2, 0.3)).forms(
        torch.tensor([1, 0]), torch.Size((2, 3)), torch.tensor([2, 0])
    )
    assert form.tolist() == [[[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]]
    assert offset.tolist() == [[-0.3, 0.1]]


def test_a_batch_bounds_each_of_its_samples_once(opened: Opener) -> None:
    network = open_bounds(*opened_task(opened, "segments"))
    assert isinstance(network, BoundedNetwork)
    some, inputs = next(network.batches(np.arange(10, 26)))
    batch = Batch.of(network, 1.0, {}, some, inputs)
    samples = network.decisions.samples[some]
    assert len(inputs["x"]) == len(np.unique(samples)) < len(some)
    part = batch.part(torch.tensor([2, 3, 15]))
    for whole in (batch, part):
        found = whole.inputs["x"][whole.rows]
        assert torch.equal(found, network.inputs["x"][network.decisions.samples[whole.samples]])


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0, 1], [0, 0, 1, 0], [1, 0, 1]])
def test_forms_of_decisions_come_back_as_their_bounds(rows: list[int]) -> None:
    """With the sum of a form as its bound, and another factor for every sample."""
    factors = torch.tensor([1.0, 10.0, 100.0])[: max(rows) + 1]
    spread = _Spread(torch.tensor(rows))
    form = torch.arange(2 * len(rows) * 3, dtype=torch.float64).reshape(2, len(rows), 3)
    bound = spread.back(spread.out(form).sum(-1) * factors)
    assert torch.equal(bound, form.sum(-1) * factors[rows])


def test_a_logarithm_that_may_leave_its_domain_costs_its_own_samples_alone(opened: Opener) -> None:
    text = (
        HEAD
        + """(float[N, 3] x) => (float[N, 2] y) <float[1] one>
        { h = MatMul(x, w) a = Add(h, one) l = Log(a) y = MatMul(l, v) }"""
    )
    weights = {
        "w": np.array([[0.5, 0.1], [0.1, 0.4], [0.2, 0.3]], np.float32),
        "v": np.array([[1.0, -1.0], [-1.0, 1.0]], np.float32),
        "one": np.ones(1, np.float32),
    }
    x = np.array([[4, 0, 0], [0, 4, 0], [-1.98, 0, 0], [3, 0, 0]], np.float32)
    runtime, placement = opened(text.replace(") ", ")\n"), weights, {"x": x}, tolerance=0.02)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    for method in ("interval", "linear"):
        found = certify(network, method=method)  # type: ignore[arg-type]
        assert found.certified.tolist() == [True, True, False, True]
        assert found.margin[2] == -np.inf
