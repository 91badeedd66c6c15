"""The engine on real networks: same scores as the files themselves, whatever their batch axis,
layout or quantisation.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cimrobust.data.load_dataset import load_data
from cimrobust.device.load_profile import load_profile
from cimrobust.engine.open import open_network
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from tests.zoo_networks import zoo_entries

SAMPLES = 200
WIDENED = (
    "mnist_mlp_256x2",
    "mnist_cnn_bn",
    "mnist_cntk_opset8",
    "cifar_resnet4b",
    "cifar_tinymobilenet",
    "acasxu_1_1",
    "cifar_resnet8_qlinear",
    "cifar_resnet4b_qdq",
)
FREE = ("fashion_cnn", "cifar_cnn_nhwc", "cifar_vit_ibp", "rul_cnn")


@pytest.mark.parametrize("name", WIDENED + FREE)
def test_zoo_network_is_deployed_right(zoo: Path, name: str) -> None:
    network = load_network(zoo / zoo_entries(zoo)[name]["file"])
    scan = scan_layers(network)
    data = load_data(str(zoo / f"{name}.toml"), inputs=network.inputs, limit=SAMPLES)
    runtime = open_network(
        network, scan, place(scan, load_profile("rram-write-verify-3pct")), data, workers=2
    )
    assert (runtime.engine.feeding.mode, runtime.deployed.batch) == (
        "free",
        "widened" if name in WIDENED else "dynamic",
    )
    assert runtime.checks.original.holds
    assert runtime.checks.original.differing_decisions <= (4 if "q" in name else 0)
    assert (runtime.checks.zero_deviation.max_difference, runtime.checks.vertex.max_difference) == (
        0.0,
        0.0,
    )
    assert not runtime.checks.dead
    if (
        name != "acasxu_1_1"
    ):  # its margins are so small that 8 bits alone turn a quarter of the decisions
        assert abs(runtime.quantised.value - runtime.clean.value) <= 0.03 * max(
            1.0, abs(runtime.clean.value)
        )
