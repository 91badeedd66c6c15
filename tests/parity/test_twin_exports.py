"""Twins of what torch itself exports, by both of its exporters, against onnxruntime at another
batch size than the exported one.
"""

from __future__ import annotations

import io
import logging
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from cimrobust.onnx_io.normalise import normalised
from cimrobust.twin.to_torch import to_torch


class Recurrent(nn.Module):
    def __init__(self, kind: str, **how: Any) -> None:
        super().__init__()
        self.cells = getattr(nn, kind)(5, 7, num_layers=2, batch_first=True, **how)
        self.head = nn.Linear(7 * (2 if how.get("bidirectional") else 1), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True),
            2,
            enable_nested_tensor=False,
        )
        self.head = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embed(x)).mean(1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2)
        self.up, self.wide = (
            nn.ConvTranspose2d(4, 4, 3, 2, 1, 1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
        )
        self.group, self.instance, self.slope = (
            nn.GroupNorm(2, 4),
            nn.InstanceNorm2d(4, affine=True),
            nn.PReLU(4),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.pool(self.slope(self.first(x)))
        return self.group(self.up(y)) + self.instance(self.wide(y))


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.Hardswish(),
        nn.Conv2d(8, 16, 1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.LogSoftmax(-1),
    )


NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "lstm": (lambda: Recurrent("LSTM"), (6, 5)),
    "lstm_both": (lambda: Recurrent("LSTM", bidirectional=True), (6, 5)),
    "gru": (lambda: Recurrent("GRU"), (6, 5)),
    "rnn": (lambda: Recurrent("RNN"), (6, 5)),
    "transformer": (Transformer, (6, 6)),
    "depthwise": (depthwise, (3, 16, 16)),
    "unet": (UNet, (2, 8, 8)),
}


def export(network: nn.Module, x: torch.Tensor, *, dynamo: bool, opset: int) -> onnx.ModelProto:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                batch = torch.export.Dim("batch", min=1, max=64)
                program = torch.onnx.export(
                    network,
                    (x,),
                    dynamo=True,
                    opset_version=opset,
                    verbose=False,
                    dynamic_shapes=({0: batch},),
                )
                assert program is not None
                return program.model_proto
            stream = io.BytesIO()
            axes = {"x": {0: "batch"}}
            torch.onnx.export(
                network,
                (x,),
                stream,
                dynamo=False,
                opset_version=opset,
                input_names=["x"],
                dynamic_axes=axes,
            )
            return onnx.load_from_string(stream.getvalue())
    finally:
        logging.disable(level)


CASES = [(name, True, 20) for name in ("lstm", "gru", "transformer", "depthwise", "unet")]
CASES += [("transformer", True, 23), ("depthwise", True, 18), ("depthwise", True, 24)]
CASES += [
    (name, False, opset) for name in NETWORKS if name != "transformer" for opset in (9, 11, 13, 17)
] + [("transformer", False, 17)]


@pytest.mark.parametrize(("name", "dynamo", "opset"), CASES)
def test_exported_network_agrees_and_all_its_weights_get_gradients(name, dynamo, opset):
    pytest.importorskip("onnxscript")
    make, shape = NETWORKS[name]
    torch.manual_seed(1)
    model = export(make().eval(), torch.randn(2, *shape), dynamo=dynamo, opset=opset)
    weights = [
        tensor.name
        for tensor in model.graph.initializer
        if len(tensor.dims) >= 2 and tensor.data_type == onnx.TensorProto.FLOAT
    ]
    twin, x = to_torch(normalised(model), weight_names=weights), torch.randn(5, *shape)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    want = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    leaves = {key: value.requires_grad_() for key, value in twin.weights.items()}
    got = twin({twin.inputs[0]: x}, leaves)[twin.outputs[0]]
    # 5e-6: float32 sums of some hundred terms of order one.
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=5e-6)
    got.square().sum().backward()
    assert weights
    assert [
        key for key, value in leaves.items() if value.grad is None or not value.grad.abs().sum() > 0
    ] == []
