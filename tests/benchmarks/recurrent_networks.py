"""Recurrent networks and a transformer for `bench_recurrent`, exported by torch or written node by
node.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


class Stacked(nn.Module):
    """Recurrent layers over each other, a class from the last step."""

    def __init__(
        self, kind: str, inputs: int, hidden: int, layers: int, *, both: bool = False
    ) -> None:
        super().__init__()
        self.layers = getattr(nn, kind)(
            inputs, hidden, layers, batch_first=True, bidirectional=both
        )
        self.last = nn.Linear(hidden * (1 + both), 6)

    def forward(self, x: Tensor) -> Tensor:
        """x [samples, steps, inputs]."""
        out: Tensor = self.last(self.layers(x)[0][:, -1])
        return out


class Gated(nn.Module):
    """Convolutions whose result a GRU over time weighs, and a shuffle of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.wide, self.deep, self.narrow = (
            nn.Conv2d(half, channels, 1),
            nn.Conv2d(channels, channels, (3, 3), padding=(0, 1), groups=channels),
            nn.Conv2d(channels, half, 1),
        )
        self.norm, self.first, self.second = nn.BatchNorm2d(channels), nn.PReLU(), nn.PReLU()
        self.over_time, self.gate = (
            nn.GRU(half, channels, batch_first=True),
            nn.Linear(channels, half),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [samples, channels, time, frequency]."""
        own, other = torch.chunk(x, 2, 1)
        h = nn.functional.pad(self.first(self.norm(self.wide(own))), [0, 0, 2, 0])
        h = self.narrow(self.second(self.deep(h)))
        weights = self.gate(self.over_time(h.pow(2).mean(-1).transpose(1, 2))[0])
        h = h * torch.sigmoid(weights).transpose(1, 2)[..., None]
        mixed = torch.stack([h, other], 1).transpose(1, 2).contiguous()
        return mixed.reshape(x.shape[0], -1, x.shape[2], x.shape[3])


class Grouped(nn.Module):
    """Two recurrent layers side by side, each on half of the features."""

    def __init__(self, inputs: int, hidden: int, *, both: bool) -> None:
        super().__init__()
        self.size, self.ways = hidden // 2, 1 + both
        self.parts = nn.ModuleList(
            [
                nn.GRU(inputs // 2, hidden // 2, batch_first=True, bidirectional=both)
                for _ in range(2)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [sequences, steps, features]."""
        start = torch.zeros(self.ways, x.shape[0], self.size)
        return torch.cat(
            [
                layer(half, start)[0]
                for layer, half in zip(self.parts, torch.chunk(x, 2, -1), strict=True)
            ],
            -1,
        )


class TwoPaths(nn.Module):
    """Recurrent layers over frequency in both directions, then over time."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.width, self.channels = width, channels
        self.across, self.along = (
            Grouped(channels, channels // 2, both=True),
            Grouped(channels, channels, both=False),
        )
        self.mixes = nn.ModuleList([nn.Linear(channels, channels) for _ in range(2)])
        self.norms = nn.ModuleList([nn.LayerNorm((width, channels)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        """x [samples, channels, time, frequency]."""
        x = x.permute(0, 2, 3, 1)
        y = self.mixes[0](self.across(x.reshape(x.shape[0] * x.shape[1], x.shape[2], x.shape[3])))
        x = x + self.norms[0](y.reshape(x.shape[0], -1, self.width, self.channels))
        t = x.permute(0, 2, 1, 3)
        y = self.mixes[1](self.along(t.reshape(t.shape[0] * t.shape[1], t.shape[2], t.shape[3])))
        y = y.reshape(t.shape[0], self.width, -1, self.channels).permute(0, 2, 1, 3)
        return (x + self.norms[1](y)).permute(0, 3, 1, 2)


class Speech(nn.Module):
    """In the manner of small networks for speech enhancement: 14 GRU in two paths and six gates,
    and a class at the end.
    """

    def __init__(self, channels: int, frequencies: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, channels, (1, 5), (1, 2), (0, 2)),
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 5), (1, 2), (0, 2), groups=2),
        )
        width = (frequencies + 3) // 4
        self.gated = nn.Sequential(*[Gated(channels) for _ in range(6)])
        self.paths = nn.Sequential(*[TwoPaths(width, channels) for _ in range(2)])
        self.last = nn.Linear(channels * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """x [samples, 3, time, frequency]."""
        out: Tensor = self.last(self.paths(self.gated(self.encoder(x))).mean(2).flatten(1))
        return out


class Attentive(nn.Module):
    """Layers of a transformer encoder, a class from the mean."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, activation="gelu"
        )
        self.layers, self.last = (
            nn.TransformerEncoder(layer, layers, enable_nested_tensor=False),
            nn.Linear(width, 6),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [samples, steps, width]."""
        out: Tensor = self.last(self.layers(x).mean(1))
        return out


def exported(network: nn.Module, shape: tuple[int, ...], *, free: bool) -> onnx.ModelProto:
    """Export a network with torch's older exporter; `free`: with any number of samples."""
    torch.manual_seed(0)
    file = io.BytesIO()
    axes = {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}} if free else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.randn(1, *shape),),
            file,
            input_names=["x"],
            output_names=["y"],
            opset_version=17,
            dynamo=False,
            **axes,
        )
    return onnx.load_from_string(file.getvalue())


def by_node(
    op: str, steps: int, inputs: int, hidden: int, *, lengths: bool = False, **how: object
) -> onnx.ModelProto:
    """Return one recurrent node that takes any number of samples; with `lengths`, an input says how
    many steps of each count.
    """
    draw, gates = np.random.default_rng(0), {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    shapes = {
        "w": (1, gates * hidden, inputs),
        "r": (1, gates * hidden, hidden),
        "b": (1, 2 * gates * hidden),
        "v": (hidden, 6),
    }
    arrays = {
        name: (draw.normal(size=shape) / 4).astype(np.float32) for name, shape in shapes.items()
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node(
            op,
            ["t", "w", "r", "b", *(["lengths"] if lengths else [])],
            ["", "h"],
            hidden_size=hidden,
            **how,
        ),
        helper.make_node("Squeeze", ["h", "zero"], ["last"]),
        helper.make_node("MatMul", ["last", "v"], ["y"]),
    ]
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", steps, inputs])]
    values += (
        [helper.make_tensor_value_info("lengths", TensorProto.INT32, ["n"])] if lengths else []
    )
    initializers = [
        numpy_helper.from_array(value, name)
        for name, value in {**arrays, "zero": np.array([0])}.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        values,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def by_steps(steps: int, inputs: int, hidden: int, *, how: str) -> onnx.ModelProto:
    """Return an RNN with Tanh as a Scan, or unrolled, as converters write it."""
    draw = np.random.default_rng(0)
    shapes = {"w": (inputs, hidden), "r": (hidden, hidden), "v": (hidden, 6)}
    arrays = {
        name: (draw.normal(size=shape) / 4).astype(np.float32) for name, shape in shapes.items()
    }
    arrays["nothing"] = np.zeros((1, hidden), np.float32)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["t", "w"], ["p"]),
        helper.make_node("Gather", ["p", "at0"], ["first"], axis=0),
        helper.make_node("Mul", ["first", "nothing"], ["h0"]),
    ]
    places = {f"at{step}": np.array(step) for step in range(steps if how == "unrolled" else 1)}

    def step(data: str, state: str, new: str) -> list[onnx.NodeProto]:
        made = [f"{new}.m", f"{new}.s"]
        return [
            helper.make_node("MatMul", [state, "r"], made[:1]),
            helper.make_node("Add", [data, made[0]], made[1:]),
            helper.make_node("Tanh", made[1:], [new]),
        ]

    if how == "scan":
        state = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", hidden])
            for name in ("hin", "xin", "hout")
        ]
        body = helper.make_graph(step("xin", "hin", "hout"), "step", state[:2], state[2:])
        nodes.append(helper.make_node("Scan", ["h0", "p"], ["last"], body=body, num_scan_inputs=1))
    else:
        for index in range(steps):
            nodes.append(helper.make_node("Gather", ["p", f"at{index}"], [f"x{index}"], axis=0))
            nodes += step(
                f"x{index}", f"h{index}", "last" if index == steps - 1 else f"h{index + 1}"
            )
    nodes.append(helper.make_node("MatMul", ["last", "v"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", steps, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(value, name) for name, value in {**arrays, **places}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "14 GRU in two paths, one frame, batch of 1": lambda: exported(
        Speech(28, 129), (3, 1, 129), free=False
    ),
    "14 GRU in two paths, 16 frames, batch of 1": lambda: exported(
        Speech(16, 129), (3, 16, 129), free=False
    ),
    "14 GRU in two paths, 16 frames": lambda: exported(Speech(16, 129), (3, 16, 129), free=True),
    "14 GRU over each other, batch of 1": lambda: exported(
        Stacked("GRU", 12, 32, 14), (30, 12), free=False
    ),
    "14 GRU over each other": lambda: exported(Stacked("GRU", 12, 32, 14), (30, 12), free=True),
    "4 LSTM over each other": lambda: exported(Stacked("LSTM", 12, 32, 4), (30, 12), free=True),
    "2 LSTM both ways": lambda: exported(
        Stacked("LSTM", 12, 32, 2, both=True), (30, 12), free=True
    ),
    "4 RNN over each other": lambda: exported(Stacked("RNN", 12, 32, 4), (30, 12), free=True),
    "GRU, reset before the product": lambda: by_node("GRU", 30, 12, 64),
    "GRU, clip (loop in Python)": lambda: by_node(
        "GRU", 30, 12, 64, clip=3.0, linear_before_reset=1
    ),
    "RNN as Scan": lambda: by_steps(30, 12, 64, how="scan"),
    "RNN unrolled": lambda: by_steps(30, 12, 64, how="unrolled"),
    "transformer, 2 layers": lambda: exported(Attentive(32, 2), (30, 32), free=True),
}
