"""Networks that other people made: one short epoch, written back, and read again with the weights
that were trained.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cimrobust.data.dataset import DataSet
from cimrobust.data.load_dataset import load_data
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.write_back import write_back
from cimrobust.pipeline.resolved_profile import resolve_profile
from cimrobust.progress import NullProgress
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.loop import train
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.parameters import check_changed, stored_integers
from cimrobust.training.session import open_session


def part(dataset: DataSet, some: slice) -> DataSet:
    inputs = {name: array[some] for name, array in dataset.inputs.items()}
    return replace(
        dataset, inputs=inputs, labels=None if dataset.labels is None else dataset.labels[some]
    )


# A fixed batch; a weight behind Reshape and a batch that cannot be widened; int8 with a scale a
# channel; a regression; labels of its own.
@pytest.mark.parametrize(
    "name", ["mnist_mlp_256x2", "mnist_cntk_opset8", "cifar_resnet4b_qdq", "rul_cnn", "acasxu_1_1"]
)
def test_trained_weights_are_read_back_from_the_file(zoo: Path, tmp_path: Path, name: str):
    network = load_network(zoo / "models" / f"{name}.onnx")
    samples = load_data(zoo / f"{name}.toml", inputs=network.inputs, limit=48)
    settings = TrainingSettings(epochs=1, batch=16, learning_rate=2e-3, search_passes=1, draws=0)
    profile = resolve_profile("rram-write-verify-3pct", 0.005)
    session = open_session(
        network, profile, part(samples, slice(32)), part(samples, slice(32, None)), settings
    )
    trained = train(
        session.job(recipe_of("a-trice-projected").method(), settings),
        session.parameters,
        progress=NullProgress(),
    )
    values, integers = stored_integers(session.trainable, trained.parameters)
    start, start_integers = stored_integers(session.trainable, session.parameters)
    check_changed({**start, **start_integers}, {**values, **integers})
    write_back(network.path, tmp_path / network.path.name, values, integers)
    again = load_network(tmp_path / network.path.name)
    assert (again.operators, again.inputs, again.outputs, again.opsets) == (
        network.operators,
        network.inputs,
        network.outputs,
        network.opsets,
    )
    written = place(scan_layers(again), profile)
    for layer, devices in session.trainable.devices.items():
        nominal = devices.program(trained.parameters.weights[layer]).nominal.detach().numpy()
        # float32 roundings of the scale
        np.testing.assert_allclose(
            nominal, written.tensors[layer].nominal, atol=1e-6 * np.abs(nominal).max()
        )
