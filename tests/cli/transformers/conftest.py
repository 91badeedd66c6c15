"""A BERT-like and a GPT-like network, as torch exports them and as onnxruntime's transformer
optimiser saves them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.transformers import optimizer
from torch import Tensor, nn

WIDTH, HEADS, WORDS, TOKENS, LONGEST, SAMPLES = 32, 4, 24, 6, 8, 16

DEVICE = """schema = 1
name = "small"
source = "test"
[weight]
bits = 8
scale = "column" # the optimiser lays query, key and value side by side: with one scale a tensor they would share one
mapping = "sign_magnitude"
[device]
bits = 2
tolerance = {tolerance}
distribution = "truncated_gaussian"
sigma = 0.001
"""  # noqa: E501


@dataclass(frozen=True)
class Family:
    """One network in several spellings.

    Attributes:
        folder: Where its files are.
        kind: What the optimiser calls it.
    """

    folder: Path
    kind: str

    @property
    def plain(self) -> Path:
        return self.folder / "plain.onnx"

    @property
    def data(self) -> Path:
        return self.folder / "data.toml"

    @property
    def device(self) -> Path:
        return self.folder / "device.toml"

    def optimised(self, level: int, *, only_onnxruntime: bool = False, half: bool = False) -> Path:
        """Save the network by the optimiser at a level of onnxruntime's own optimisation."""
        path = self.folder / f"{self.kind}_{level}_{int(only_onnxruntime)}_{int(half)}.onnx"
        settings = {"opt_level": level, "only_onnxruntime": only_onnxruntime, "use_gpu": False}
        model = optimizer.optimize_model(
            str(self.plain), model_type=self.kind, num_heads=HEADS, hidden_size=WIDTH, **settings
        )
        if half:
            with np.errstate(all="ignore"):
                model.convert_float_to_float16(keep_io_types=True)
        model.save_model_to_file(str(path))
        return path

    def saved_by_onnxruntime(self, level: str) -> Path:
        """Save the network as a session of onnxruntime optimises it."""
        path = self.folder / f"session_{level}.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
        )
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(str(self.plain), options, providers=["CPUExecutionProvider"])
        return path


class BertLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (_heads(layer(x)) for layer in (self.query, self.key, self.value))
        scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(WIDTH // HEADS) + mask
        x = self.norms[0](self.out(_joined(torch.matmul(torch.softmax(scores, -1), value))) + x)
        return self.norms[1](self.narrow(nn.functional.gelu(self.wide(x))) + x)  # type: ignore[no-any-return]


class Bert(nn.Module):
    """Classifies token sequences with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = (
            nn.Embedding(rows, WIDTH) for rows in (WORDS, LONGEST, 2)
        )
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList([BertLayer() for _ in range(2)])
        self.pool, self.classify = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        mask = (1.0 - attention_mask.unsqueeze(1).unsqueeze(2).to(torch.float32)) * torch.finfo(
            torch.float32
        ).min
        places = torch.arange(LONGEST).unsqueeze(0)[:, : input_ids.size(1)]
        x = self.norm(self.words(input_ids) + self.kinds(token_type_ids) + self.places(places))
        for layer in self.layers:
            x = layer(x, mask)
        return self.classify(torch.tanh(self.pool(x[:, 0])))  # type: ignore[no-any-return]


class GptBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        shapes = {
            "qkv": (WIDTH, 3 * WIDTH),
            "out": (WIDTH, WIDTH),
            "wide": (WIDTH, 2 * WIDTH),
            "narrow": (2 * WIDTH, WIDTH),
        }
        self.weights = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(shape) * 0.3) for name, shape in shapes.items()}
        )
        self.biases = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(shape[1]) * 0.1) for name, shape in shapes.items()}
        )
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(2)])
        self.register_buffer(
            "causal",
            torch.tril(torch.ones(LONGEST, LONGEST, dtype=torch.bool)).view(1, 1, LONGEST, LONGEST),
        )

    def _product(self, x: Tensor, name: str) -> Tensor:
        weight = self.weights[name]
        flat = torch.addmm(self.biases[name], x.view(-1, x.size(-1)), weight)
        return flat.view(x.size(0), x.size(1), weight.size(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self._product(self.norms[0](x), "qkv").split(WIDTH, dim=2)
        key = key.view(key.size(0), key.size(1), HEADS, WIDTH // HEADS).permute(0, 2, 3, 1)
        scores = torch.matmul(_heads(query), key) / math.sqrt(WIDTH // HEADS)
        queries, keys = scores.size(-2), scores.size(-1)
        allowed = self.causal[:, :, keys - queries : keys, :keys]  # type: ignore[index]
        scores = torch.where(allowed, scores, torch.tensor(torch.finfo(torch.float32).min))
        x = (
            self._product(_joined(torch.matmul(torch.softmax(scores, -1), _heads(value))), "out")
            + x
        )
        wide = self._product(self.norms[1](x), "wide")
        bent = (
            0.5
            * wide
            * (
                1.0
                + torch.tanh(math.sqrt(2.0 / math.pi) * (wide + 0.044715 * torch.pow(wide, 3.0)))
            )
        )
        return self._product(bent, "narrow") + x


class Gpt(nn.Module):
    """Predicts the next token at every position; words are embedded and scored by one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.blocks = nn.ModuleList([GptBlock() for _ in range(2)])
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, input_ids: Tensor) -> Tensor:
        places = torch.arange(0, input_ids.size(1), dtype=torch.long).unsqueeze(0)
        x = self.words(input_ids) + self.places(places)
        for block in self.blocks:
            x = block(x)
        return torch.matmul(self.norm(x), self.words.weight.t())


def _heads(x: Tensor) -> Tensor:
    return x.view(x.size(0), x.size(1), HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)


def _joined(x: Tensor) -> Tensor:
    together = x.permute(0, 2, 1, 3).contiguous()
    return together.view(together.size(0), together.size(1), WIDTH)


def _family(
    folder: Path, kind: str, network: nn.Module, arrays: dict[str, np.ndarray], tolerance: float
) -> Family:
    """Export a network, and write its data with its own decisions as labels."""
    family = Family(folder, kind)
    inputs = tuple(torch.as_tensor(array) for array in arrays.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        axes = {name: {0: "batch", 1: "tokens"} for name in arrays}
        names = {"input_names": list(arrays), "output_names": ["logits"], "dynamic_axes": axes}
        torch.onnx.export(
            network.eval(), inputs, str(family.plain), opset_version=14, dynamo=False, **names
        )
    with torch.no_grad():
        labels = network(*inputs).argmax(-1).numpy()
    np.savez(folder / "data.npz", y=labels, **arrays)
    described = "".join(
        f'[[input]]\nname = "{name}"\narray = "{name}"\ndtype = "int64"\n' for name in arrays
    )
    axis = "[decision]\naxis = -1\n" if labels.ndim > 1 else ""
    family.data.write_text(
        f'schema = 1\nfile = "data.npz"\n{described}[label]\narray = "y"\n{axis}'
    )
    family.device.write_text(DEVICE.format(tolerance=tolerance))
    return family


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Family:
    torch.manual_seed(0)
    network = Bert()
    for parameter in network.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, 0.0, 0.3)
    rng = np.random.default_rng(3)
    lengths = rng.integers(3, TOKENS + 1, (SAMPLES, 1))
    places = np.arange(TOKENS)[None].repeat(SAMPLES, 0)
    arrays = {
        "input_ids": rng.integers(0, WORDS, (SAMPLES, TOKENS)),
        "attention_mask": (places < lengths).astype(np.int64),
        "token_type_ids": (places >= TOKENS // 2).astype(np.int64),
    }
    return _family(tmp_path_factory.mktemp("bert"), "bert", network, arrays, 0.001)


@pytest.fixture(scope="session")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Family:
    torch.manual_seed(0)
    arrays = {"input_ids": np.random.default_rng(3).integers(0, WORDS, (SAMPLES, TOKENS))}
    return _family(tmp_path_factory.mktemp("gpt"), "gpt2", Gpt(), arrays, 0.01)


@pytest.fixture(params=["bert", "gpt"])
def family(request: pytest.FixtureRequest) -> Family:
    made: Callable[[str], Family] = request.getfixturevalue
    return made(request.param)
