"""Convolutions that have no outputs, and converters without the samples that set their ranges."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from cimrobust.data.dataset import DataSet
from cimrobust.data.task import Task
from cimrobust.engine.converter_proof import open_converters
from cimrobust.engine.nodes import conv_geometry
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import ModelNotCoveredError, UsageError
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.crossbar_nodes import CrossbarNode, StoredOperand
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.network import Network


def conv(*kernel: int) -> CrossbarNode:
    operand = StoredOperand(1, "W", ("w",), np.zeros((2, 3, *kernel), np.int64))
    return CrossbarNode("c", "Conv", 13, {}, ("x", ""), ("y",), (operand,))


@pytest.mark.parametrize(
    ("kernel", "shape", "message"),
    [
        ((1, 1, 1, 1), (1, 3, 4, 4, 4, 4), "convolution must have 1 to 3 spatial axes, got 4"),
        (
            (5, 5),
            (1, 3, 4, 4),
            r"convolution must have outputs, got an input of shape \[1, 3, 4, 4\] \(node 'c'\)",
        ),
    ],
)
def test_convolutions_without_a_geometry(
    kernel: tuple[int, ...], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ModelNotCoveredError, match=message):
        conv_geometry(conv(*kernel), shape)


def test_ranges_of_converters_need_samples() -> None:
    placement = Mock(spec=Placement, profile=SimpleNamespace(name="adc"))
    opened = [Mock(spec=kind) for kind in (OrtEngine, Deployed, Network)]
    judged = [Mock(spec=kind) for kind in (DataSet, Task)]
    with pytest.raises(
        UsageError,
        match=r"calibration data must be given for a profile with converters, got none .*'adc'",
    ):
        open_converters(*opened, placement, *judged, None)
