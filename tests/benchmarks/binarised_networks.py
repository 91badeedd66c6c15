"""Train small networks whose activations are steps, for the search's hardest gradients.

    python tests/benchmarks/binarised_networks.py --zoo ../shared/zoo --out out/binarised

Writes an ONNX file and a data description each: `sign_mlp` (MNIST, ONNX Sign), `where_cnn` (Fashion-MNIST,
Where(Greater)), `cast_mlp` (MNIST, 2 Cast(Greater) - 1) and `round_mlp` (MNIST, Round to 2 bits).
Trained straight through; the same seed gives the same file on one machine.
"""  # noqa: E501

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_BATCH = 100
_RATE = 2e-3


class _Step(nn.Module):
    """A step forward, a clamp backward; exported as one of the forms that steps have in ONNX."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        """Return the step of every value."""
        value = self._value(x)
        if torch.onnx.is_in_onnx_export():
            return value
        soft = (x.clamp(0, 1) * 3) / 3 if self.form == "round" else x.clamp(-1, 1)
        return soft + (value - soft).detach()

    def _value(self, x: Tensor) -> Tensor:
        if self.form == "sign":
            return torch.sign(x)
        if self.form == "where":
            return torch.where(x > 0, torch.ones(()), -torch.ones(()))
        if self.form == "cast":
            return 2 * (x > 0).to(torch.float32) - 1
        return torch.round(x.clamp(0, 1) * 3) / 3


def mlp(form: str) -> nn.Module:
    """Return 784 - 256 - 256 - 10 with steps behind every hidden layer."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 256), nn.BatchNorm1d(256), _Step(form)),
        *(nn.Linear(256, 256), nn.BatchNorm1d(256), _Step(form), nn.Linear(256, 10)),
    )


def cnn(form: str) -> nn.Module:
    """Return two convolutions and a dense layer, with steps behind the first two and that."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), _Step(form)),
        *(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), _Step(form)),
        *(nn.Flatten(), nn.Linear(32 * 49, 64), nn.BatchNorm1d(64), _Step(form)),
        nn.Linear(64, 10),
    )


NETWORKS: dict[str, tuple[Callable[[str], nn.Module], str, str]] = {
    "sign_mlp": (mlp, "sign", "mnist"),
    "where_cnn": (cnn, "where", "fashion"),
    "cast_mlp": (mlp, "cast", "mnist"),
    "round_mlp": (mlp, "round", "mnist"),
}


def train(network: nn.Module, x: Tensor, y: Tensor, *, epochs: int) -> None:
    """Train with Adam, the learning rate falling to zero along a cosine."""
    steps = epochs * (len(x) // _BATCH)
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for batch in order[: len(x) // _BATCH * _BATCH].split(_BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
            schedule.step()
    network.eval()


def write(name: str, zoo: Path, out: Path, *, epochs: int, seed: int) -> None:
    """Train a network and write it with its description."""
    make, form, source = NETWORKS[name]
    torch.manual_seed(seed)
    network = make(form)
    train(network, *_data(zoo, source, "train"), epochs=epochs)
    x, y = _data(zoo, source, "test")
    with torch.no_grad():
        accuracy = float((network(x).argmax(1) == y).double().mean())
    out.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (x[:1],),
            str(out / f"{name}.onnx"),
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}},
            opset_version=17,
            dynamo=False,
        )
    file = os.path.relpath(zoo / "data" / f"{source}_test.npz", out)
    (out / f"{name}.toml").write_text(
        f'schema = 1\nfile = "{file}"\n\n'
        '[[input]]\nname = "image"\narray = "x"\ndtype = "float32"\n'
        'steps = [{ op = "divide", value = 255 }, { op = "reshape", shape = [1, 28, 28] }]\n\n'
        '[label]\narray = "y"\n\n[decision]\noutput = "scores"\nread = "argmax"\n'
        'metric = "accuracy"\n'
    )
    print(f"{name}: test accuracy {accuracy:.4f}", flush=True)


def _data(zoo: Path, source: str, part: str) -> tuple[Tensor, Tensor]:
    with np.load(zoo / "data" / f"{source}_{part}.npz") as data:
        x = torch.from_numpy(data["x"]).reshape(-1, 1, 28, 28).to(torch.float32) / 255
        return x, torch.from_numpy(data["y"]).to(torch.int64)


def main() -> None:
    """Train the networks named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True, help="Folder of models and data")
    parser.add_argument("--out", type=Path, required=True, help="Folder for the networks")
    parser.add_argument("--networks", nargs="+", default=tuple(NETWORKS), choices=tuple(NETWORKS))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.networks:
        write(name, options.zoo, options.out, epochs=options.epochs, seed=options.seed)


if __name__ == "__main__":
    main()
