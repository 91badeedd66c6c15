"""Small networks, opened and placed, that the search's tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.search import search_budget as budget

Opener = Callable[..., tuple[Runtime, Placement]]

MLP = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <float[6, 12] w1, float[12] b1, float[12, 4] w2> {
  h = MatMul(x, w1)
  a = Add(h, b1)
  r = Relu(a)
  y = MatMul(r, w2)
}
"""


def mlp_weights(seed: int = 1) -> dict[str, np.ndarray]:
    """Return weights of the small network."""
    random = np.random.default_rng(seed)
    return {
        "w1": random.normal(size=(6, 12)).astype(np.float32),
        "b1": np.full(12, 0.1, np.float32),
        "w2": random.normal(size=(12, 4)).astype(np.float32),
    }


def samples(count: int, *shape: int) -> np.ndarray:
    """Return samples of a standard normal distribution."""
    return np.random.default_rng(7).normal(size=(count, *shape)).astype(np.float32)


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """Open a model given as text on samples; without labels its own decisions are the labels."""

    def opener(
        text: str,
        weights: Mapping[str, np.ndarray],
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray | None = None,
        *,
        decision: Decision | None = None,
        tolerance: float = 0.05,
        constants: Mapping[str, np.ndarray] | None = None,
        profile: DeviceProfile | None = None,
    ) -> tuple[Runtime, Placement]:
        model = parser.parse_model(text)
        kept = [tensor for tensor in model.graph.initializer if tensor.name not in weights]
        del model.graph.initializer[:]
        model.graph.initializer.extend(
            [*kept, *(numpy_helper.from_array(array, key) for key, array in weights.items())]
        )
        onnx.save(model, tmp_path / "model.onnx")
        network = load_network(tmp_path / "model.onnx")
        scan = scan_layers(network)
        exact = DeviceProfile(
            "test", "test", device=DeviceTable(tolerance=tolerance, sigma=tolerance / 3)
        )
        placement = place(scan, profile or exact)
        source = DataSource("test", {}, {}, len(next(iter(inputs.values()))))
        dataset = DataSet(inputs, constants or {}, labels, decision or Decision(), source)
        return open_network(network, scan, placement, dataset), placement

    return opener


@pytest.fixture
def small(opened: Opener) -> tuple[Runtime, Placement]:
    """The small network on 200 samples, labelled with its own decisions."""
    return opened(MLP, mlp_weights(), {"x": samples(200, 6)})


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every member run, each for a few passes."""
    quick = replace(
        budget.budget_of("quick"),
        smooth=(8,),
        hinge=(4,),
        entropy=(4,),
        ratio=(3,),
        targets=2,
        probe=2,
        collapse=(3,),
        continuation=(12,),
        evaluations=16,
        evaluations_alone=64,
        random_corners=4,
    )
    monkeypatch.setitem(budget._LEVELS, "quick", quick)
