"""A small network in a file, and sessions of it, that the tests of re-training share."""

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
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.onnx_io.load_network import load_network
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.session import Session, open_session

Opener = Callable[..., Session]

MLP = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) <float[6, 16] w1, float[16] b1, float[16, 4] w2> {
  h = MatMul(x, w1)
  a = Add(h, b1)
  r = Relu(a)
  y = MatMul(r, w2)
}
"""


def weights_of_mlp(seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "w1": (0.3 * random.normal(size=(6, 16))).astype(np.float32),
        "b1": np.full(16, 0.1, np.float32),
        "w2": (0.3 * random.normal(size=(16, 4))).astype(np.float32),
    }


def write_model(path: Path, text: str, weights: Mapping[str, np.ndarray]) -> Path:
    """Write a model given as text with some weights."""
    model = parser.parse_model(text)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in weights]
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        [*kept, *(numpy_helper.from_array(array, key) for key, array in weights.items())]
    )
    onnx.save(model, path)
    return path


def dataset(x: np.ndarray, labels: np.ndarray | None, decision: Decision | None = None) -> DataSet:
    return DataSet({"x": x}, {}, labels, decision or Decision(), DataSource("test", {}, {}, len(x)))


def clusters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four clusters in six dimensions, and which one each sample is of."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, count)
    centres = np.random.default_rng(5).normal(size=(4, 6)) * 1.5
    return (centres[labels] + 0.4 * random.normal(size=(count, 6))).astype(
        np.float32
    ), labels.astype(np.int64)


def profile_of(tolerance: float = 0.03) -> DeviceProfile:
    return with_tolerance(load_profile("rram-write-verify-3pct"), tolerance)


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """Open a session of a model given as text; by default a small network on four clusters."""

    def opener(
        text: str = MLP,
        weights: Mapping[str, np.ndarray] | None = None,
        training: DataSet | None = None,
        *,
        profile: DeviceProfile | None = None,
        settings: TrainingSettings | None = None,
        evaluation: DataSet | None = None,
        **more: object,
    ) -> Session:
        path = write_model(
            tmp_path / "model.onnx", text, weights_of_mlp() if weights is None else weights
        )
        x, labels = clusters(300, seed=1)
        own = training or dataset(x, labels)
        unlabelled = replace(own, inputs={"x": own.inputs["x"] + 100})
        other = evaluation or (
            dataset(*clusters(100, seed=2)) if own.labels is not None else unlabelled
        )
        chosen = settings or quick()
        return open_session(
            load_network(path),
            profile or profile_of(),
            own,
            replace(other, decision=own.decision),
            chosen,
            **more,
        )

    return opener


def quick(**changes: object) -> TrainingSettings:
    """Settings of a short training."""
    return replace(
        TrainingSettings(epochs=3, batch=32, learning_rate=1e-2, search_passes=3, draws=0),
        **changes,
    )
