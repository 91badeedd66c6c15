"""Small graphs in ONNX text, written to files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a model given as ONNX text, with arrays as further initializers, without checking it."""  # noqa: E501

    def write(text: str, name: str = "model.onnx", **arrays: np.ndarray) -> Path:
        model = onnx.parser.parse_model(text)
        for tensor, values in arrays.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, tensor))
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def load(write: Write) -> Callable[..., Network]:
    """Write a model and load it."""

    def load(text: str, **arrays: np.ndarray) -> Network:
        return load_network(write(text, **arrays))

    return load
