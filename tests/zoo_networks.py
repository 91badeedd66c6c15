"""Names of the networks of the model zoo, and what its manifest says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FLOAT_NETWORKS = (
    "mnist_mlp_256x2",
    "mnist_cnn_bn",
    "mnist_cntk_opset8",
    "fashion_cnn",
    "cifar_resnet4b",
    "cifar_cnn_nhwc",
    "cifar_tinymobilenet",
    "cifar_vit_ibp",
    "acasxu_1_1",
    "rul_cnn",
)
QUANTISED_NETWORKS = ("cifar_resnet8_qlinear", "cifar_resnet4b_qdq")
ZOO_NETWORKS = FLOAT_NETWORKS + QUANTISED_NETWORKS


def zoo_entries(zoo: Path) -> dict[str, dict[str, Any]]:
    """What the manifest says of each network, by name."""
    models = json.loads((zoo / "manifest.json").read_text())["models"]
    return {model["name"]: model for model in models}
