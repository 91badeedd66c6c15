"""Write networks of families that no other benchmark has, as torch exports them.

    python tests/benchmarks/network_families.py efficientnet convnext swin unet --out out/families
    cimrobust analyze out/families/unet.onnx --data out/families/unet.toml --effort quick --limit 32

Random weights, sane statistics of BatchNorm, data that the network labels itself. `efficientnet`:
depthwise convolutions with squeeze and excitation; `convnext`: depthwise 7 x 7 and LayerNorm of
channels; `swin`: attention in shifted windows with a bias of positions; `unet`: every pixel of
256 x 256 is a decision.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_networks import describe, export, settled

_ARGMAX = 'output = "scores"\nread = "argmax"'


class Excited(nn.Module):
    """Channels weighed by what all pixels of them say."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, inside, 1), nn.Conv2d(inside, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = functional.silu(self.down(x.mean(dim=(2, 3), keepdim=True)))
        return x * torch.sigmoid(self.up(seen))


class Inverted(nn.Module):
    """Inverted bottleneck of an EfficientNet."""

    def __init__(self, inputs: int, outputs: int, *, size: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU(),
            nn.Conv2d(wide, wide, size, stride, size // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide), nn.SiLU(), Excited(wide, inputs // 4),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


def efficientnet(classes: int = 100) -> nn.Module:
    """Return a small EfficientNet for colour images."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.SiLU(),
    ]  # fmt: skip
    width = 32
    for outputs, size, stride in ((32, 3, 1), (48, 3, 2), (48, 3, 1), (80, 5, 2), (80, 5, 1),
                                  (160, 3, 2), (160, 5, 1)):  # fmt: skip
        layers.append(Inverted(width, outputs, size=size, stride=stride))
        width = outputs
    head = [nn.Conv2d(width, 640, 1, bias=False), nn.BatchNorm2d(640), nn.SiLU()]
    ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(640, classes)]
    return nn.Sequential(*layers, *head, *ends)


class Next(nn.Module):
    """Block of a ConvNeXt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.normal = nn.LayerNorm(width)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        inside = self.dense(self.normal(self.depthwise(x).permute(0, 2, 3, 1)))
        return x + (self.scale * inside).permute(0, 3, 1, 2)


def convnext(classes: int = 100) -> nn.Module:
    """Return a small ConvNeXt for colour images."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 4, 4)]
    for width, blocks in ((64, 2), (128, 2), (256, 4)):
        if width > 64:
            layers += [nn.GroupNorm(1, width // 2), nn.Conv2d(width // 2, width, 2, 2)]
        layers += [Next(width) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, classes))


class Windows(nn.Module):
    """Attention inside of windows of 4 x 4 tokens, which every second layer shifts by half."""

    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.heads, self.side, self.shift = heads, side, shift
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.places = nn.Parameter(0.2 * torch.randn(heads, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.between(y := x + self._seen(self.before(x)))) + y

    def _seen(self, x: Tensor) -> Tensor:
        batch, side, _, width = x.shape
        count = self.side // 4
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = x.view(batch, count, 4, count, 4, width).permute(0, 1, 3, 2, 4, 5)
        parts = self.mixed(x.reshape(batch, count * count, 16, width))
        query, key, value = (
            part.view(batch, count * count, 16, self.heads, -1).transpose(2, 3)
            for part in parts.chunk(3, dim=-1)
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + self.places
        seen = (scores.softmax(dim=-1) @ value).transpose(2, 3).reshape(batch, -1, 16, width)
        seen = self.out(seen).view(batch, count, count, 4, 4, width).permute(0, 1, 3, 2, 4, 5)
        seen = seen.reshape(batch, side, side, width)
        return torch.roll(seen, (self.shift, self.shift), (1, 2))


class Swin(nn.Module):
    """A small Swin transformer for colour images of 64 x 64 pixels."""

    def __init__(self, classes: int = 100, width: int = 96) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.first = nn.Sequential(*(Windows(width, 4, 16, 2 * (i % 2)) for i in range(2)))
        self.merged = nn.Linear(4 * width, 2 * width)
        self.second = nn.Sequential(*(Windows(2 * width, 8, 8, 2 * (i % 2)) for i in range(4)))
        self.normal, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(self.patches(image).permute(0, 2, 3, 1))
        corners = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        x = self.second(self.merged(torch.cat(corners, dim=-1)))
        return self.head(self.normal(x).mean(dim=(1, 2)))


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """A U-Net that names every pixel one of four classes."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128), classes: int = 4) -> None:
        super().__init__()
        inputs = (3, *widths[:-1])
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip(inputs, widths, strict=True))
        pairs = [(widths[i], widths[i - 1]) for i in range(len(widths) - 1, 0, -1)]
        self.wider = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.up = nn.ModuleList(_twice(2 * b, b) for _, b in pairs)
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for layer in self.down[:-1]:
            kept.append(x := layer(x))
            x = functional.max_pool2d(x, 2)
        x = self.down[-1](x)
        for wider, layer, beside in zip(self.wider, self.up, reversed(kept), strict=True):
            x = layer(torch.cat([beside, wider(x)], dim=1))
        return self.head(x)


def images(count: int, side: int) -> Tensor:
    """Return coarse coloured patches with noise."""
    coarse = torch.randn(count, 3, 8, 8)
    return functional.interpolate(coarse, size=side) + 0.3 * torch.randn(count, 3, side, side)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "efficientnet": (efficientnet, 96, _ARGMAX),
    "convnext": (convnext, 64, _ARGMAX),
    "swin": (Swin, 64, _ARGMAX),
    "unet": (UNet, 256, f"{_ARGMAX}\naxis = 1"),
}


def main() -> None:
    """Write the networks named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", choices=list(FAMILIES))
    parser.add_argument("--out", type=Path, required=True, help="Folder for the files")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.networks:
        torch.manual_seed(options.seed)
        build, side, decision = FAMILIES[name]
        x = images(options.samples + 8, side)
        path = options.out / f"{name}.onnx"
        export(settled(build(), x[:8]), path, x[:1], ["image"], ["scores"])
        describe(path, x[8:].numpy(), None, decision, "image")


if __name__ == "__main__":
    main()
