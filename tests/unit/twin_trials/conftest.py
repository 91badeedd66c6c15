"""Networks whose drawn chips a twin scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.engine.subject import Subject
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.settings.subject_settings import SubjectSettings

Written = Callable[..., Subject]

# The samples of a batch of two lie along the second axis of the products: no larger batch fits.
_BODIES = {
    "no batch axis": ("[6]", "[4]", "h = MatMul(x, w1) r = Relu(h) y = MatMul(r, w2)"),
    "a batch of two": (
        "[2, 6]",
        "[2, 4]",
        "h = MatMul(x, w1) r = Relu(h) t = Transpose(r) m = MatMul(t, mix) n = Transpose(m)"
        " y = MatMul(n, w2)",
    ),
}


def open_named(named: SubjectSettings) -> Subject:
    """Open what a user names."""
    inspection = inspect_subject(named)
    return Subject(open_subject(named, inspection, workers=1), inspection.placement)


@pytest.fixture(scope="session")
def digits(samples: Path) -> Subject:
    """The convolutional sample, on chips whose scores vary."""
    return open_named(
        SubjectSettings(
            samples / "digits_cnn.onnx", samples / "digits_cnn.toml", limit=120, tolerance=0.15
        )
    )


@pytest.fixture(scope="session")
def tumours(samples: Path) -> Subject:
    """The sample that decides by a threshold."""
    return open_named(
        SubjectSettings(
            samples / "breast_cancer_mlp.onnx",
            samples / "breast_cancer_mlp.toml",
            limit=60,
            tolerance=0.6,
        )
    )


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write a network given as text with its samples, and open it."""

    def opener(
        text: str, weights: Mapping[str, np.ndarray], x: np.ndarray, read: str = "argmax"
    ) -> Subject:
        model = parser.parse_model(text)
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in weights.items()
        )
        onnx.save(model, tmp_path / "model.onnx")
        np.savez(tmp_path / "data.npz", x=x)
        metric = "rmse" if read == "value" else "accuracy"
        (tmp_path / "data.toml").write_text(
            'schema = 1\nfile = "data.npz"\n[[input]]\nname = "x"\narray = "x"\n'
            f'[label]\nself = true\n[decision]\nread = "{read}"\nmetric = "{metric}"\n'
        )
        return open_named(SubjectSettings(tmp_path / "model.onnx", tmp_path / "data.toml"))

    return opener


@pytest.fixture(params=_BODIES)
def fixed_batch(written: Written, request: pytest.FixtureRequest) -> Subject:
    """A network that takes one sample, or two, at a time; 31 samples."""
    takes, gives, body = _BODIES[request.param]
    draw = np.random.default_rng(1)
    # One of the batch changes the other only where weights deviate.
    mix = np.diag([0.7, 0.7]).astype(np.float32)
    weights = {
        "w1": draw.normal(size=(6, 8)).astype(np.float32),
        "w2": draw.normal(size=(8, 4)).astype(np.float32),
        **({"mix": mix} if "mix" in body else {}),
    }
    text = (
        f'<ir_version: 8, opset_import: ["" : 13]> net (float{takes} x) => (float{gives} y) {{'
        f" {body} }}"
    )
    return written(text, weights, draw.normal(size=(31, 6)).astype(np.float32))
