"""Searches on decisions that are not one plain argmax a sample: masked classes, the k best, labels
that are not counted, a threshold a label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision, LabelReading
from cimrobust.data.failure import margins_of
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import box_of
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import open_gradients
from cimrobust.search.losses import CrossEntropy, Hinge, MarginRatio, SmoothAccuracy
from cimrobust.search.torch_patterns import tensors_of

GENERATOR = np.random.default_rng(5)
W1, W2 = (
    GENERATOR.normal(size=(6, 16)).astype(np.float32),
    GENERATOR.normal(size=(16, 5)).astype(np.float32),
)
X = GENERATOR.normal(size=(60, 6)).astype(np.float32)
TOKENS = GENERATOR.normal(size=(30, 4, 6)).astype(np.float32)
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net '
BODY = "{ h = MatMul(x, w1) r = Relu(h) s = MatMul(r, w2) y = Identity(s) }"
MASKED = "{ h = MatMul(x, w1) r = Relu(h) s = MatMul(r, w2) y = Add(s, mask) }"
MASK = np.array([0, 0, -np.inf, 0, -np.inf], np.float32)

Opened = tuple[Runtime, Placement]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Opened]:
    def opener(
        x: np.ndarray,
        body: str,
        labels: np.ndarray,
        decision: Decision,
        reading: LabelReading | None = None,
    ) -> Opened:
        shape = ", ".join(["N", *map(str, x.shape[1:])])
        model = parser.parse_model(HEAD + f"(float[{shape}] x) => (float[{shape[:-1]}5] y) {body}")
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name)
            for name, array in (("w1", W1), ("w2", W2), ("mask", MASK))
        )
        onnx.save(model, tmp_path / "model.onnx")
        network = load_network(tmp_path / "model.onnx")
        scan = scan_layers(network)
        placement = place(
            scan, DeviceProfile("test", "test", device=DeviceTable(tolerance=0.05, sigma=0.02))
        )
        data = DataSet(
            {"x": x},
            {},
            labels,
            decision,
            DataSource("test", {}, {}, len(x)),
            reading or LabelReading(),
        )
        return open_network(network, scan, placement, data), placement

    return opener


def scores(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x @ W1, 0) @ W2)


def cases() -> dict[str, tuple[np.ndarray, str, np.ndarray, Decision, LabelReading | None]]:
    best = scores(X).argsort(axis=1)
    tokens = scores(TOKENS).argmax(axis=-1)
    ignored = np.where(GENERATOR.random(tokens.shape) < 0.4, -100, tokens)
    ignored[:, 0] = tokens[:, 0]
    thresholds = (-1.0, 0.0, 0.5, 1.0, 2.0)
    return {
        "masked": (X, MASKED, (scores(X) + MASK).argmax(axis=1), Decision(), None),
        "masked label": (
            X,
            MASKED,
            np.where(np.arange(60) < 5, 2, (scores(X) + MASK).argmax(axis=1)),
            Decision(),
            None,
        ),
        "top 2": (X, BODY, best[:, -2], Decision(read="topk", k=2), None),
        "top 2 masked": (
            X,
            MASKED,
            (scores(X) + MASK).argsort(axis=1)[:, -2],
            Decision(read="topk", k=2),
            None,
        ),
        "ignored": (TOKENS, BODY, ignored, Decision(), LabelReading(ignore=(-100,))),
        "top 2 ignored": (
            TOKENS,
            BODY,
            ignored,
            Decision(read="topk", k=2, axis=2),
            LabelReading(ignore=(-100,)),
        ),
        "thresholds": (
            X,
            BODY,
            (scores(X) > np.array(thresholds)).astype(int),
            Decision(read="threshold", threshold=thresholds),
            None,
        ),
    }


NAMES = sorted(cases())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_of_the_decisions_that_are_counted(
    opened: Callable[..., Opened], name: str
) -> None:
    runtime, placement = opened(*cases()[name])
    oracle = open_gradients(Subject(runtime, placement), Run(effort="quick")).oracle
    assert oracle is not None
    box = box_of(placement)
    assert oracle.labels.numel() == runtime.task.num_decisions
    pattern = box.clip({key: np.full_like(array, 0.3) for key, array in box.nominal.items()})
    output = runtime.outputs(box.weights(pattern))
    for loss in (
        SmoothAccuracy(),
        CrossEntropy(),
        Hinge(),
        *([MarginRatio()] if "thresholds" not in name else []),
    ):
        found = oracle.evaluate(tensors_of(pattern, oracle.device), loss, 1.0)
        assert int(found.correct.sum()) == runtime.task.score(output).count
        assert all(
            torch.isfinite(gradient).all() and gradient.any()
            for gradient in found.gradients.values()
        )
    expected = margins_of(runtime.task, output)
    np.testing.assert_allclose(found.margins.numpy(), expected, rtol=1e-4, atol=1e-4)
    order = oracle.decisions.safest_first(found.margins)
    (correct, margin), count = oracle.promising(
        tensors_of(pattern, oracle.device), order=order, most_correct=10**9
    )
    assert (correct, count) == (int(found.correct.sum()), oracle.num_samples)
    np.testing.assert_allclose(margin.numpy(), found.margins.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["masked", "top 2", "top 2 ignored", "thresholds"])
def test_what_is_found_is_worse_and_counts_no_other_decisions(
    opened: Callable[..., Opened], name: str
) -> None:
    runtime, placement = opened(*cases()[name])
    found = search(Subject(runtime, placement), Run(seed=0, effort="quick"))
    assert found.has_twin
    assert found.score.num_samples == runtime.task.num_decisions
    assert found.score.value < runtime.quantised.value - 0.05


def test_ignored_positions_do_not_steer_the_search(opened: Callable[..., Opened]) -> None:
    x, body, labels, decision, reading = cases()["ignored"]
    runtime, placement = opened(x, body, labels, decision, reading)
    others = np.where(labels == -100, -7, labels)
    again, _ = opened(x, body, others, decision, replace(reading, ignore=(-7,)))
    first, second = (
        search(Subject(one, placement), Run(seed=0, effort="quick")) for one in (runtime, again)
    )
    assert first.score == second.score
    assert all(
        (first.deviations[name] == second.deviations[name]).all() for name in first.deviations
    )
