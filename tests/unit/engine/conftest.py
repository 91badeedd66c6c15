"""Small networks and placements that the engine's tests share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.placement import GivenLimits, Placement, TensorPlacement
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network

Loader = Callable[..., Network]


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    """Write a model given as text, with the weights given, and load it."""

    def loader(text: str, weights: Mapping[str, np.ndarray], name: str = "model.onnx") -> Network:
        model = parser.parse_model(text)
        kept = [tensor for tensor in model.graph.initializer if tensor.name not in weights]
        del model.graph.initializer[:]
        model.graph.initializer.extend(
            [*kept, *(numpy_helper.from_array(array, key) for key, array in weights.items())]
        )
        onnx.checker.check_model(model)
        onnx.save(model, tmp_path / name)
        return load_network(tmp_path / name)

    return loader


@pytest.fixture
def place_box() -> Callable[[LayerScan, float], Placement]:
    """Place every layer with the same absolute box, nothing quantised."""

    def placer(scan: LayerScan, radius: float) -> Placement:
        profile, tensors = DeviceProfile(name="test", source="test"), {}
        for layer in scan.layers:
            box = np.full(layer.shape, radius, np.float32)
            tensors[layer.initializer] = TensorPlacement(
                initializer=layer.initializer,
                profile=profile,
                shape=layer.shape,
                stored=layer.values,
                limits=GivenLimits(-box, box),
                scale=np.ones(1),
                scale_group=None,
                num_groups=layer.num_groups,
                num_rows=layer.num_rows,
                num_cols=layer.num_cols,
                num_slices=1,
                cells_per_weight=1,
                num_reference_cells=0,
                num_tiles=1,
                levels_given=False,
            )
        return Placement(profile=profile, tensors=tensors)

    return placer


@pytest.fixture
def dataset() -> Callable[..., DataSet]:
    """Make a data set of arrays."""

    def maker(
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray | None = None,
        *,
        constants: Mapping[str, np.ndarray] | None = None,
        decision: Decision | None = None,
    ) -> DataSet:
        source = DataSource(
            description="test", files={}, steps={}, num_available=len(next(iter(inputs.values())))
        )
        return DataSet(
            inputs=inputs,
            constants=constants or {},
            labels=labels,
            decision=decision or Decision(),
            source=source,
        )

    return maker
