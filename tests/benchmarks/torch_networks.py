"""Write networks as people export them from torch: a detector, a speech encoder, a trained ResNet.

    python tests/benchmarks/torch_networks.py detector whisper --out out/large --samples 32
    python tests/benchmarks/torch_networks.py fashion_resnet18 --data FOLDER --out out/large

`detector` is a one-stage detector (three scales, 80 classes); what it decides is the class of
every cell. `whisper` has the shape of the encoder of Whisper-tiny, with a head of 99 classes. Both
have random weights and label their data themselves. `fashion_resnet18` is trained: a ResNet-18 of
11 M weights on Fashion-MNIST at 64 x 64 pixels (FOLDER holds fashion_train.npz and
fashion_test.npz with `x` as uint8 and `y`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_IMAGE = 320
_FRAMES, _MELS = 3000, 80
_FASHION_IMAGE = 64


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, size, stride, (size - 1) // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU())


class Bottleneck(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(width, width, 1), _conv(width, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SplitStage(nn.Module):
    """Cross-stage partial block: one half passes the bottlenecks, both are joined."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        half = outputs // 2
        self.passed, self.kept = _conv(inputs, half, 1), _conv(inputs, half, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half) for _ in range(depth)))
        self.joined = _conv(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.joined(torch.cat([self.blocks(self.passed(x)), self.kept(x)], dim=1))


class Detector(nn.Module):
    """One-stage detector: boxes, objectness and scores of the classes of every cell."""

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 32, 6, 2), _conv(32, 64, 3, 2), SplitStage(64, 64, 1))
        self.fine = nn.Sequential(_conv(64, 128, 3, 2), SplitStage(128, 128, 2))
        self.middle = nn.Sequential(_conv(128, 256, 3, 2), SplitStage(256, 256, 3))
        self.coarse = nn.Sequential(_conv(256, 512, 3, 2), SplitStage(512, 512, 1))
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.pooled = _conv(1024, 512, 1)
        self.up_middle = SplitStage(768, 256, 1)
        self.up_fine = SplitStage(384, 128, 1)
        self.heads = nn.ModuleList(nn.Conv2d(c, 5 + classes, 1) for c in (128, 256, 512))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.fine(self.stem(image))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        coarse = self.pooled(torch.cat([coarse, self.pool(coarse)], dim=1))
        middle = self.up_middle(
            torch.cat([functional.interpolate(coarse, scale_factor=2.0), middle], dim=1)
        )
        fine = self.up_fine(
            torch.cat([functional.interpolate(middle, scale_factor=2.0), fine], dim=1)
        )
        cells = [
            head(x).flatten(2).transpose(1, 2)
            for head, x in zip(self.heads, (fine, middle, coarse), strict=True)
        ]
        found = torch.cat(cells, dim=1)
        return found[..., :4].sigmoid(), found[..., 4].sigmoid(), found[..., 5:]


class EncoderLayer(nn.Module):
    """Attention and two dense layers, normalised before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.mixed(self.before(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.dense(self.between(x))


class SpeechEncoder(nn.Module):
    """Encoder of the shape of Whisper-tiny (4 layers, 384 wide) with the head of a language."""

    def __init__(self, width: int = 384, layers: int = 4, languages: int = 99) -> None:
        super().__init__()
        self.first = nn.Conv1d(_MELS, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        steps = math.log(10000) / (width // 2 - 1) * torch.arange(width // 2)
        angles = torch.arange(_FRAMES // 2)[:, None] * torch.exp(-steps)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], dim=1))
        self.layers = nn.Sequential(*(EncoderLayer(width, 6) for _ in range(layers)))
        self.normal, self.head = nn.LayerNorm(width), nn.Linear(width, languages)

    def forward(self, mel: Tensor) -> Tensor:
        x = functional.gelu(self.second(functional.gelu(self.first(mel)))).transpose(
            1, 2
        ) + self.get_buffer("positions")
        return self.head(self.normal(self.layers(x)).mean(dim=1))


class Residual(nn.Module):
    """Basic block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs),
            nn.ReLU(), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        short = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.short = nn.Sequential(*short if stride > 1 else [])

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.short(x))


def resnet18(classes: int) -> nn.Sequential:
    """Return a ResNet-18 for one grey channel."""
    layers: list[nn.Module] = [
        nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
    ]  # fmt: skip
    width = 64
    for outputs in (64, 128, 256, 512):
        stride = 1 if outputs == width else 2
        layers += [Residual(width, outputs, stride), Residual(outputs, outputs, 1)]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def export(
    network: nn.Module, path: Path, sample: Tensor, names: list[str], outputs: list[str]
) -> None:
    """Write a network that takes any number of samples."""
    program = torch.onnx.export(
        network.eval(), (torch.cat([sample, sample]),), dynamo=True, input_names=names,
        output_names=outputs, dynamic_shapes=({0: torch.export.Dim("N")},), verbose=False,
    )  # fmt: skip
    assert program is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))


def describe(path: Path, x: np.ndarray, y: np.ndarray | None, decision: str, name: str) -> None:
    """Write the data of a network and their description; without labels it labels them itself."""
    arrays = {"x": x} if y is None else {"x": x, "y": y}
    np.savez(path.with_suffix(".npz"), **arrays)
    label = "self = true" if y is None else 'array = "y"'
    path.with_suffix(".toml").write_text(
        f'schema = 1\nfile = "{path.stem}.npz"\n\n[[input]]\nname = "{name}"\narray = "x"\n'
        f'dtype = "float32"\n\n[label]\n{label}\n\n[decision]\n{decision}\n'
    )


def settled(network: nn.Module, x: Tensor) -> nn.Module:
    """Set the statistics of every BatchNorm to those of a batch."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = None
    with torch.no_grad():
        network.train()(x)
    return network


def write_detector(options: argparse.Namespace) -> None:
    """Write the detector; images are coarse coloured patches with noise."""
    coarse = torch.randn(options.samples + 4, 3, 8, 8)
    images = functional.interpolate(coarse, size=_IMAGE) + 0.3 * torch.randn(1, 3, _IMAGE, _IMAGE)
    network = settled(Detector(), images[:4])
    path = options.out / "detector.onnx"
    export(network, path, images[:1], ["image"], ["boxes", "objectness", "classes"])
    decision = 'output = "classes"\nread = "argmax"\naxis = 2'
    describe(path, images[4:].numpy(), None, decision, "image")


def write_whisper(options: argparse.Namespace) -> None:
    """Write the speech encoder; spectrograms are tones that glide, with noise."""
    time = torch.arange(_FRAMES) / _FRAMES
    starts, slopes = torch.rand(2, options.samples, 1) * _MELS
    tones = (starts + (slopes - _MELS / 2) * time)[:, None, :]
    distance = torch.arange(_MELS)[None, :, None] - tones
    mel = torch.exp(-distance.square() / 8) + 0.1 * torch.randn(options.samples, _MELS, _FRAMES)
    path = options.out / "whisper.onnx"
    export(SpeechEncoder(), path, mel[:1], ["mel"], ["languages"])
    describe(path, mel.numpy(), None, 'output = "languages"\nread = "argmax"', "mel")


def write_fashion_resnet18(options: argparse.Namespace) -> None:
    """Train and write a ResNet-18 on Fashion-MNIST, enlarged to 64 x 64."""
    sets = {part: np.load(options.data / f"fashion_{part}.npz") for part in ("train", "test")}
    (x, y), (x_test, y_test) = (
        (_enlarged(s["x"]), torch.from_numpy(s["y"])) for s in sets.values()
    )
    network = resnet18(10)
    steps = options.epochs * -(-len(x) // 64)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.05, total_steps=steps)
    for epoch in range(options.epochs):
        for rows in torch.randperm(len(x)).split(64):
            loss = functional.cross_entropy(network(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {options.epochs}: loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        network.eval()
        found = torch.cat([network(part).argmax(dim=1) for part in x_test.split(100)])
    print(f"accuracy on {len(y_test)} test images: {(found == y_test).double().mean():.3%}")
    path = options.out / "fashion_resnet18.onnx"
    export(network, path, x_test[:1], ["image"], ["scores"])
    decision = 'output = "scores"\nread = "argmax"\nmetric = "accuracy"'
    describe(
        path,
        x_test[: options.samples].numpy(),
        y_test.numpy()[: options.samples],
        decision,
        "image",
    )


def _enlarged(x: np.ndarray) -> Tensor:
    images = torch.from_numpy(x.reshape(-1, 1, 28, 28)).float() / 255
    return functional.interpolate(images, size=_FASHION_IMAGE, mode="bilinear")


NETWORKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "detector": write_detector,
    "whisper": write_whisper,
    "fashion_resnet18": write_fashion_resnet18,
}


def main() -> None:
    """Write the networks named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", choices=list(NETWORKS))
    parser.add_argument("--out", type=Path, required=True, help="Folder for the files")
    parser.add_argument(
        "--data", type=Path, help="Folder of fashion_train.npz and fashion_test.npz"
    )
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if "fashion_resnet18" in options.networks and options.data is None:
        parser.error("fashion_resnet18 is trained: say where its data are (--data FOLDER)")
    for name in options.networks:
        torch.manual_seed(options.seed)
        NETWORKS[name](options)


if __name__ == "__main__":
    main()
