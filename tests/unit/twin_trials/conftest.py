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
