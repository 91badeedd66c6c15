"""A label among the k best is certified only where no chip of the box pushes it out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.data.failure import margins_of
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import box_of
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search.ensemble import search

GENERATOR = np.random.default_rng(2)
W1, W2 = (
    GENERATOR.normal(size=(5, 12)).astype(np.float32),
    GENERATOR.normal(size=(12, 6)).astype(np.float32),
)
X = GENERATOR.normal(size=(60, 5)).astype(np.float32)
TEXT = (
    '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 5] x) => (float[N, 6] y) { h ='
    " MatMul(x, w1) r = Relu(h) y = MatMul(r, w2) }"
)


def opened(folder: Path, k: int, tolerance: float) -> tuple[Runtime, BoundedNetwork]:
    model = parser.parse_model(TEXT)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in (("w1", W1), ("w2", W2))
    )
    onnx.save(model, folder / "m.onnx")
    network = load_network(folder / "m.onnx")
    scan = scan_layers(network)
    placement = place(
        scan,
        DeviceProfile("test", "test", device=DeviceTable(tolerance=tolerance, sigma=tolerance / 3)),
    )
    labels = np.asarray(np.maximum(X @ W1, 0) @ W2).argsort(axis=1)[:, -2]
    decision = Decision(read="topk", k=k) if k > 1 else Decision()
    runtime = open_network(
        network,
        scan,
        placement,
        DataSet({"x": X}, {}, labels, decision, DataSource("t", {}, {}, len(X))),
    )
    bounds = open_bounds(runtime, placement)
    assert isinstance(bounds, BoundedNetwork)
    return runtime, bounds


@pytest.mark.parametrize("method", ["interval", "linear"])
@pytest.mark.parametrize("k", [2, 3])
def test_no_chip_breaks_a_certified_label_among_the_best(
    tmp_path: Path, k: int, method: str
) -> None:
    runtime, network = opened(tmp_path, k, 0.01)
    found = certify(network, method=method)  # type: ignore[arg-type]
    assert 0 < found.count < len(X) or k == 3
    box = box_of(network.placement)
    worst = search(Subject(runtime, network.placement), Run(seed=1, effort="quick"))
    patterns = [dict(worst.deviations)]
    patterns += [
        box.clip(
            {
                name: GENERATOR.choice([-1.0, 1.0], array.shape).astype(np.float32)
                for name, array in box.nominal.items()
            }
        )
        for _ in range(50)
    ]
    for pattern in patterns:
        output = runtime.outputs(box.weights(pattern))
        assert runtime.task.right(output)[found.certified].all()
        assert (
            margins_of(runtime.task, output)[found.certified]
            >= found.margin[found.certified] - 1e-5
        ).all()


def test_more_may_be_ahead_so_more_is_certified(tmp_path: Path) -> None:
    counts = [certify(opened(tmp_path, k, 0.004)[1]).count for k in (1, 2, 3, 5)]
    assert counts[0] == 0  # the second best label is never the best one
    assert counts == sorted(counts)
    assert counts[-1] > counts[1] > 0
