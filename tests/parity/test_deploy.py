"""Deployed networks against the files they come from, in onnxruntime: the zoo, and networks
exported and quantised here.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnxruntime import quantization
from torch import nn

from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.save import save_model, with_weights
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.session_template import template_bytes
from tests.exact_runs import exact_model, exact_options
from tests.zoo_networks import zoo_entries

Feeds = dict[str, np.ndarray]


def session(model: Any, weights: Feeds | None = None) -> ort.InferenceSession:
    options = exact_options()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if weights:
        options.add_external_initializers(
            list(weights), [ort.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
        )
    return ort.InferenceSession(exact_model(model), options, providers=["CPUExecutionProvider"])


def run(model: Any, feeds: Feeds, weights: Feeds | None = None) -> list[np.ndarray]:
    return list(session(model, weights).run(None, feeds))


def random_feeds(network: Network, batch: int, seed: int) -> Feeds:
    generator = np.random.default_rng(seed)
    feeds: Feeds = {}
    for spec in network.inputs:
        shape = [dim if isinstance(dim, int) else batch for dim in spec.shape or ()]
        is_integer = "int" in spec.dtype
        feeds[spec.name] = (
            generator.integers(0, 4, shape) if is_integer else generator.normal(size=shape)
        ).astype(spec.dtype)
    return feeds


def other_weights(deployed: Deployed) -> Feeds:
    generator = np.random.default_rng(0)
    tensors = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in deployed.model.graph.initializer
    }
    return {
        name: (
            (tensors[name] * (1 + 0.1 * generator.normal(size=tensors[name].shape))).astype(
                np.float32
            )
        )
        for name in deployed.weight_names
    }


def check(path: Path, folder: Path, *, rtol: float = 1e-5, widened: bool | None = None) -> Deployed:
    """Check the deployed form of a file: own weights, other weights, and the widened batch.

    Args:
        path: Model file.
        folder: Where a deviated model is written.
        rtol: Largest difference from the file's outputs, as a fraction of their largest absolute
            value.
        widened: Whether the batch axis must have been widened; None where the file has a symbolic
            one.
    """
    network = load_network(path)
    deployed = deploy(network, scan_layers(network), widen=False)
    feeds = random_feeds(network, 3, 0)
    plain = run(str(path), feeds)
    compare(plain, run(deployed.model.SerializeToString(), feeds), rtol)
    weights = other_weights(deployed)
    assert weights
    save_model(with_weights(deployed, weights), folder / "worst_case.onnx")
    onnx.checker.check_model(str(folder / "worst_case.onnx"), full_check=True)
    deviated = run(str(folder / "worst_case.onnx"), feeds)
    compare(deviated, run(template_bytes(deployed), feeds, weights), 0.0)
    assert any((a != b).any() for a, b in zip(plain, deviated, strict=True))
    if widened is not None:
        check_widened(network, path, widened, rtol)
    return deployed


def check_widened(network: Network, path: Path, widened: bool, rtol: float) -> None:
    wide = deploy(network, scan_layers(network))
    assert wide.batch == ("widened" if widened else "fixed")
    if widened:
        parts = [random_feeds(network, 1, seed) for seed in range(3)]
        whole = run(
            wide.model.SerializeToString(),
            {name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
        )
        plain = session(str(path))
        results = [plain.run(None, part) for part in parts]
        compare([np.concatenate(values) for values in zip(*results, strict=True)], whole, rtol)


def compare(expected: list[np.ndarray], got: list[np.ndarray], rtol: float) -> None:
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(
            b, a, rtol=0, atol=rtol * max(float(np.abs(a).max(initial=0)), 1e-30)
        )


ZOO = {
    "mnist_mlp_256x2": True,
    "mnist_cnn_bn": True,
    "mnist_cntk_opset8": True,
    "fashion_cnn": None,
    "cifar_resnet4b": True,
    "cifar_cnn_nhwc": None,
    "cifar_tinymobilenet": True,
    "cifar_vit_ibp": None,
    "acasxu_1_1": True,
    "rul_cnn": None,
    "cifar_resnet8_qlinear": True,
    "cifar_resnet4b_qdq": True,
}


@pytest.mark.parametrize("name", list(ZOO))
def test_the_zoo(zoo: Path, tmp_path: Path, name: str) -> None:
    entry = zoo_entries(zoo)[name]
    rtol = (
        0.2 if "qlinear" in name else 1e-5
    )  # QLinear: rounding of ties differs, a few output steps of a random image; else float32 sums
    deployed = check(zoo / entry["file"], tmp_path, rtol=rtol, widened=ZOO[name])
    if not entry["extra_files"]:
        assert [spec.name for spec in deployed.outputs] == [
            spec["name"] for spec in entry["outputs"]
        ]


def test_decisions_of_the_integer_network_stay(zoo: Path) -> None:
    network = load_network(zoo / "models" / "cifar_resnet8_qlinear.onnx")
    deployed = deploy(network, scan_layers(network))
    images = (
        np.load(zoo / "data" / "cifar10_test.npz")["x"][:96]
        .astype(np.float32)
        .transpose(0, 3, 1, 2)
    )
    name = network.inputs[0].name
    plain = session(str(network.path))
    expected = np.concatenate(
        [plain.run(None, {name: images[start : start + 16]})[0] for start in range(0, 96, 16)]
    )
    got = run(deployed.model.SerializeToString(), {name: images})[0]
    assert (expected.argmax(1) == got.argmax(1)).mean() >= 0.97


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grouped, self.up = (
            nn.Conv2d(8, 8, 3, padding=1, groups=4),
            nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),
        )
        self.last = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.norm(self.first(x)))
        hidden = self.up(hidden + self.grouped(hidden))
        return self.last(hidden.mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = getattr(nn, kind)(
            5, 6, num_layers=2, bidirectional=kind == "LSTM", batch_first=True
        )
        self.last = nn.Linear(12 if kind == "LSTM" else 6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(x)
        hidden = torch.cat([self.token.expand(hidden.shape[0], -1, -1), hidden], 1)
        return self.head(self.body(hidden)[:, 0])


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up, self.last = (
            nn.Conv2d(4, 8, 3, padding=1, stride=2),
            nn.Upsample(scale_factor=2),
            nn.Linear(512, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv(x)
        size, channels, rows, columns = hidden.shape
        hidden = (
            hidden.view(size, 2, channels // 2, rows, columns)
            .transpose(1, 2)
            .reshape(size, channels, rows, columns)
        )
        return self.last(self.up(hidden).view(size, -1))


EXPORTS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "residual": (Residual, (1, 3, 8, 8)),
    "lstm": (lambda: Recurrent("LSTM"), (1, 4, 5)),
    "gru": (lambda: Recurrent("GRU"), (1, 4, 5)),
    "transformer": (Transformer, (1, 4, 5)),
    "shuffle": (Shuffle, (1, 4, 8, 8)),
}


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep exporters and quantisers from talking."""
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def export(name: str, path: Path, *, dynamo: bool, dynamic: bool) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    make, shape = EXPORTS[name]
    module, sample = make().eval(), torch.randn(*shape)
    with quietly():
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
            args = (torch.cat([sample, sample]) if dynamic else sample,)
            torch.onnx.export(
                module, args, str(path), dynamo=True, verbose=False, dynamic_shapes=shapes
            )
        else:
            axes = {"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None
            torch.onnx.export(
                module,
                (sample,),
                str(path),
                dynamo=False,
                opset_version=17,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes=axes,
            )


@pytest.mark.parametrize("name", ["residual", "lstm", "transformer"])
def test_dynamo_exports(tmp_path: Path, name: str) -> None:
    export(name, tmp_path / "model.onnx", dynamo=True, dynamic=False)
    check(tmp_path / "model.onnx", tmp_path, widened=True)


def test_a_dynamo_export_with_a_symbolic_batch(tmp_path: Path) -> None:
    export("transformer", tmp_path / "model.onnx", dynamo=True, dynamic=True)
    assert check(tmp_path / "model.onnx", tmp_path).batch == "dynamic"


@pytest.mark.parametrize("name", list(EXPORTS))
@pytest.mark.parametrize("dynamic", [False, True])
def test_traced_exports(tmp_path: Path, name: str, dynamic: bool) -> None:
    export(name, tmp_path / "model.onnx", dynamo=False, dynamic=dynamic)
    check(tmp_path / "model.onnx", tmp_path, widened=None if dynamic else True)


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, path: Path) -> None:
        network = load_network(path)
        self._feeds = iter([random_feeds(network, 1, seed) for seed in range(4)])

    def get_next(self) -> Feeds | None:
        return next(self._feeds, None)


FORMS: dict[str, dict[str, Any]] = {
    "qdq": {
        "quant_format": quantization.QuantFormat.QDQ,
        "weight_type": quantization.QuantType.QUInt8,
        "activation_type": quantization.QuantType.QUInt8,
    },
    "qdq channel": {"quant_format": quantization.QuantFormat.QDQ, "per_channel": True},
    "qdq at run time": {
        "quant_format": quantization.QuantFormat.QDQ,
        "extra_options": {"AddQDQPairToWeight": True},
    },
    "qdq 16 bits": {
        "quant_format": quantization.QuantFormat.QDQ,
        "weight_type": quantization.QuantType.QInt16,
    },
    "qlinear": {
        "quant_format": quantization.QuantFormat.QOperator,
        "weight_type": quantization.QuantType.QUInt8,
        "activation_type": quantization.QuantType.QUInt8,
    },
    "qlinear channel": {"quant_format": quantization.QuantFormat.QOperator, "per_channel": True},
}


@pytest.mark.parametrize("name", ["shuffle", "transformer"])
@pytest.mark.parametrize("form", list(FORMS))
def test_statically_quantised_networks(tmp_path: Path, name: str, form: str) -> None:
    source, path = tmp_path / "float.onnx", tmp_path / "model.onnx"
    export(name, source, dynamo=False, dynamic=False)
    with quietly():
        quantization.quantize_static(source, path, Calibration(source), **FORMS[form])
    deployed = check(
        path, tmp_path, rtol=0.05, widened=True
    )  # one step of an 8 bit activation early in the network, at most a few at its end
    original = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert set(deployed.weight_names) <= original


@pytest.mark.parametrize("name", ["shuffle", "transformer"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamically_quantised_networks(tmp_path: Path, name: str, per_channel: bool) -> None:
    source, path = tmp_path / "float.onnx", tmp_path / "model.onnx"
    export(name, source, dynamo=False, dynamic=False)
    with quietly():
        quantization.quantize_dynamic(
            source, path, weight_type=quantization.QuantType.QInt8, per_channel=per_channel
        )
    check(path, tmp_path, rtol=1e-5, widened=False)
