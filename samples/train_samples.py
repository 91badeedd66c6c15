"""Train the sample networks from scikit-learn's bundled data and export them to ONNX.

    python samples/train_samples.py

Plain training, no robustness measures: the samples show what an ordinary network does. The same
seed gives the same files on one machine and torch version.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent


class DigitsCnn(nn.Module):
    """Two convolutions and two dense layers on 8 x 8 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image))


class Block(nn.Module):
    """Two convolutions with batch normalisation around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


class DigitsResnet(nn.Module):
    """A small residual network on 8 x 8 digits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            Block(16),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            Block(32),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 10),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image)


class BreastCancerMlp(nn.Module):
    """Thirty measurements of a tumour in, one score out: positive means benign."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)
        )

    def forward(self, measurements: Tensor) -> Tensor:
        return self.net(measurements)


def train(
    network: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    *,
    loss: nn.Module,
    epochs: int,
    decay: float = 1e-4,
) -> None:
    """Train with Adam, batches of 64, the learning rate falling along a cosine."""
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    order = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs), generator=order).split(64):
            optimiser.zero_grad()
            loss(
                (
                    network(inputs[batch]).squeeze(-1)
                    if labels.is_floating_point()
                    else network(inputs[batch])
                ),
                labels[batch],
            ).backward()
            optimiser.step()
        schedule.step()
    network.eval()


def export(
    network: nn.Module, example: np.ndarray, path: Path, *, names: tuple[str, str], dynamic: bool
) -> None:
    """Export at opset 17, batch normalisation kept apart; the batch axis named or fixed at 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(example),),
            path,
            input_names=[names[0]],
            output_names=[names[1]],
            opset_version=17,
            dynamic_axes={names[0]: {0: "batch"}, names[1]: {0: "batch"}} if dynamic else None,
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def digits() -> None:
    """Train both digits networks; 1198 images to train on, 599 to judge."""
    data = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        data.images, data.target, test_size=1 / 3, random_state=0, stratify=data.target
    )
    for name, x, y in (("digits_train", train_x, train_y), ("digits_test", test_x, test_y)):
        np.savez_compressed(HERE / f"{name}.npz", x=x.astype(np.uint8), y=y.astype(np.int64))
    inputs = (train_x[:, None] / 16).astype(np.float32)
    for network, name, dynamic in (
        (DigitsCnn, "digits_cnn", True),
        (DigitsResnet, "digits_resnet", False),
    ):
        torch.manual_seed(0)
        made = network()
        train(made, inputs, train_y.astype(np.int64), loss=nn.CrossEntropyLoss(), epochs=40)
        right = (
            made(torch.from_numpy((test_x[:, None] / 16).astype(np.float32))).argmax(1).numpy()
            == test_y
        )
        print(f"{name}: {right.mean():.4f} on {right.size} images")
        export(made, inputs[:1], HERE / f"{name}.onnx", names=("image", "scores"), dynamic=dynamic)


def breast_cancer() -> None:
    """Train the tumour network; 379 patients to train on, 190 to judge.

    Measurements scaled by the training set's mean and deviation.
    """
    data = load_breast_cancer()
    train_x, test_x, train_y, test_y = train_test_split(
        data.data, data.target, test_size=1 / 3, random_state=0, stratify=data.target
    )
    mean, deviation = train_x.mean(axis=0), train_x.std(axis=0)
    for name, x, y in (
        ("breast_cancer_train", train_x, train_y),
        ("breast_cancer_test", test_x, test_y),
    ):
        scaled = ((x - mean) / deviation).astype(np.float32)
        np.savez_compressed(HERE / f"{name}.npz", x=scaled, y=y.astype(np.int64))
    torch.manual_seed(0)
    network = BreastCancerMlp()
    inputs = ((train_x - mean) / deviation).astype(np.float32)
    train(
        network,
        inputs,
        train_y.astype(np.float32),
        loss=nn.BCEWithLogitsLoss(),
        epochs=60,
        decay=1e-3,
    )
    right = (
        network(torch.from_numpy(((test_x - mean) / deviation).astype(np.float32))).squeeze(-1) > 0
    ).numpy() == test_y
    print(f"breast_cancer_mlp: {right.mean():.4f} on {right.size} patients")
    export(
        network,
        inputs[:1],
        HERE / "breast_cancer_mlp.onnx",
        names=("measurements", "benign_score"),
        dynamic=True,
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits()
    breast_cancer()


if __name__ == "__main__":
    main()
