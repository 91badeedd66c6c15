"""How the certified bound fares with depth: networks of 1, 2, 3 and 6 hidden layers, trained here
on the digits sample.

    python tests/benchmarks/bench_certify_depth.py [--inputs N] [--width N]

Columns as in `bench_certify`; the same 64-WIDTH-...-10 network for every depth, trained for 60
epochs with Adam from seed 0.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from bench_certify import ROOT, lines, measure, opened_file
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cimrobust.engine.torch_threads import one_torch_thread

DEPTHS = (1, 2, 3, 6)


def trained(depth: int, width: int) -> nn.Sequential:
    """Train a network on the training digits."""
    torch.manual_seed(0)
    sizes = [64, *[width] * depth, 10]
    layers: list[nn.Module] = []
    for index in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[index], sizes[index + 1]), nn.ReLU()]
    net = nn.Sequential(*layers[:-1])
    data = np.load(ROOT / "samples" / "digits_train.npz")
    x, y = (
        torch.from_numpy(data["x"].reshape(len(data["x"]), -1).astype(np.float32) / 16),
        torch.from_numpy(data["y"]).long(),
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(60):
        for some in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[some]), y[some]).backward()
            optimiser.step()
    return net


def saved(net: nn.Sequential, folder: Path) -> tuple[Path, Path]:
    """Write a network as a chain of Gemm and Relu, and the description of its data."""
    nodes, weights, last = [helper.make_node("Flatten", ["image"], ["flat"])], [], "flat"
    for index, layer in enumerate(net):
        name = f"t{index}"
        if isinstance(layer, nn.Linear):
            parts = {f"w{index}": layer.weight, f"b{index}": layer.bias}
            weights += [
                numpy_helper.from_array(tensor.detach().numpy(), key)
                for key, tensor in parts.items()
            ]
            nodes.append(helper.make_node("Gemm", [last, *parts], [name], transB=1))
        else:
            nodes.append(helper.make_node("Relu", [last], [name]))
        last = name
    nodes[-1].output[0] = "scores"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", ["N", 1, 8, 8]), ("scores", ["N", 10]))
    ]
    graph = helper.make_graph(nodes, "digits", ends[:1], ends[1:], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        folder / "net.onnx",
    )
    text = (
        (ROOT / "samples" / "digits_cnn.toml")
        .read_text()
        .replace('"digits_', f'"{ROOT}/samples/digits_')
    )
    (folder / "net.toml").write_text(text)
    return folder / "net.onnx", folder / "net.toml"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=16)
    parser.add_argument("--width", type=int, default=50)
    arguments = parser.parse_args()
    results: dict[str, dict[str, object]] = {}
    with one_torch_thread(), tempfile.TemporaryDirectory() as folder:
        for depth in DEPTHS:
            runtime, placement = opened_file(
                *saved(trained(depth, arguments.width), Path(folder)), 3 * arguments.inputs
            )
            measure(
                f"{depth} hidden",
                runtime,
                placement,
                arguments.inputs,
                math.inf,
                True,
                False,
                results,
                lambda: None,
            )
            print("\n".join(lines(results)), flush=True)


if __name__ == "__main__":
    main()
