"""What a GPU gives: drawn chips, gradients of the search and training, beside the processor.

    python tests/benchmarks/bench_gpu.py --device-type cuda --out out/gpu
    python tests/benchmarks/bench_gpu.py --device-type cpu --network resnet18 --small --out out/gpu

Makes a network of `large_networks.py`, does the same on the processor and on the device, checks
that both agree, and writes OUT/gpu.md, one table. The first line is for a machine with a GPU and
sized for ten minutes there; the second shows in about a minute, without one, that the script
works. Training has a network of its own, ResNet-18: the ResNet-50 of random weights amplifies what
two engines round by more than training accepts. Parts that would begin after `--seconds` are left
out and say so. Exit code 1: something that must agree does not, or is refused.
"""

from __future__ import annotations

import argparse
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from large_graphs import NETWORKS
from large_networks import write_network

from cimrobust.data.load_dataset import load_data
from cimrobust.engine.checks import random_vertex
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_device import open_device, repeatable_convolutions
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.errors import CimrobustError
from cimrobust.mapping.box import Box
from cimrobust.montecarlo.trials import run_trials
from cimrobust.onnx_io.load_network import load_network
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.pipeline.resolved_profile import resolve_profile
from cimrobust.run import Run, available_processors
from cimrobust.search.gradients import open_gradients
from cimrobust.search.losses import SmoothAccuracy
from cimrobust.search.oracle import Evaluation, GradientOracle
from cimrobust.search.torch_patterns import array_of, tensors_of
from cimrobust.settings.subject_settings import SubjectSettings
from cimrobust.settings.training_settings import TrainingSettings
from cimrobust.training.loop import start_training, train_epoch
from cimrobust.training.methods.method_catalogue import recipe_of
from cimrobust.training.session import open_session
from cimrobust.twin_trials.confirmed_trials import run_trials_on_device
from cimrobust.twin_trials.twin_outputs import open_twin_outputs

DEVICE = "rram-write-verify-3pct"
PERCENTILES = ((1.0, 0.95), (5.0, 0.95), (10.0, 0.95))
# Gradients of all weights as one vector, device against processor; float32 sums of a deep network.
MOST_APART = 1e-2
MOST_LOSS_APART = 1e-3


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds of the processor and of the device, and how they agree."""

    what: str
    processor: float
    device: float
    agreement: str
    agrees: bool

    def __str__(self) -> str:
        ratio = self.processor / max(self.device, 1e-9)
        return (
            f"| {self.what} | {self.processor:.3g} | {self.device:.3g} | {ratio:.2g} |"
            f" {self.agreement}{'' if self.agrees else ' **differs**'} |"
        )


def timed(work: Callable[[], object], *, repeats: int = 1) -> float:
    """Return the least seconds of some runs."""
    spent = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begin)
    return min(spent)


def write_files(name: str, options: argparse.Namespace) -> Path:
    """Write the network, its evaluation samples and other samples to train on."""
    # Ten classes: of a thousand, a network of random weights decides for none twice alike.
    usual = NETWORKS[name][1]
    size = replace(usual, classes=10, image=64 if options.small else usual.image)
    count = options.samples + options.training
    path = write_network(name, options.out, size=size, samples=count, seed=options.seed)
    with np.load(path.with_suffix(".npz")) as arrays:
        x, y = arrays["x"], arrays["y"]
    count = options.samples
    np.savez(path.with_suffix(".npz"), x=x[:count], y=y[:count])
    np.savez(path.with_name(f"{path.stem}_train.npz"), x=x[count:], y=y[count:])
    description = path.with_suffix(".toml")
    file = f'file = "{path.stem}.npz"'
    text = description.read_text().replace(file, f'{file}\ntrain_file = "{path.stem}_train.npz"')
    description.write_text(text)
    return path


def trials(subject: Subject, run: Run, count: int) -> Iterator[Row]:
    """Draw chips on both, whole and step by step."""
    placement, runtime = subject.placement, subject.runtime
    chip = program_chip(placement, seed=run.seed, trial=0)
    twin = open_twin_outputs(subject, run)
    with one_torch_thread(), repeatable_convolutions(twin.device):
        twin.of(chip)  # the first run prepares kernels
        device = timed(lambda: twin.of(chip), repeats=3)
        found = twin.of(chip)
    processor = timed(lambda: runtime.outputs(chip, threads=run.workers))
    apart = float(np.abs(found - runtime.outputs(chip, threads=run.workers)).max())
    scale = float(np.abs(found).max())
    yield Row("a chip, scored", processor, device, f"scores within {apart / scale:.1g}", True)
    drawing = timed(lambda: program_chip(placement, seed=run.seed, trial=1, out=chip), repeats=3)
    yield Row("a chip, drawn (one thread)", drawing, drawing, "on the processor for both", True)
    begin = time.perf_counter()
    expected = run_trials(subject, run, num_trials=count)
    middle = time.perf_counter()
    table = run_trials_on_device(subject, run, num_trials=count, percentages=PERCENTILES)
    end = time.perf_counter()
    differing = int((table.value != expected.value).sum())
    again = re.search(r"onnxruntime scored (?:all )?(\d+)", table.note)
    print(table.note, flush=True)
    yield Row(
        f"{count} chips, confirmed",
        middle - begin,
        end - middle,
        f"{differing} of {count} scores differ; {again.group(1) if again else '?'} run again whole",
        differing == 0,
    )


def passes(subject: Subject, run: Run) -> Iterator[Row]:
    """Make passes of the search on both, at the quantised weights and at a corner of the box."""
    box = subject.box
    points = {"the quantised weights": box.zero(), "a corner": corner(subject, box)}
    oracles = {
        kind: open_gradients(subject, Run(seed=run.seed, workers=run.workers, device_type=kind,
                                          attack_samples=run.attack_samples)).oracle
        for kind in dict.fromkeys(("cpu", run.device_type))
    }  # fmt: skip
    processor, device = oracles["cpu"], oracles[run.device_type]
    assert processor is not None
    assert device is not None
    evaluate(device, box.zero())  # the first run prepares kernels
    for where, pattern in points.items():
        spent = timed(lambda p=pattern: evaluate(processor, p))
        spent_there = timed(lambda p=pattern: evaluate(device, p), repeats=3)
        first, second = evaluate(processor, pattern), evaluate(device, pattern)
        gradients = apart_of(first.gradients, second.gradients)
        correct = int(first.correct.sum()), int(second.correct.sum())
        yield Row(
            f"a pass of {processor.num_samples} samples at {where}",
            spent,
            spent_there,
            f"{correct[0]} and {correct[1]} correct, gradients within {gradients:.1g}",
            gradients <= MOST_APART and abs(correct[0] - correct[1]) <= 1,
        )


def corner(subject: Subject, box: Box) -> Mapping[str, np.ndarray]:
    """Return the deviations of a random corner of the box."""
    return {
        name: random_vertex(tensor) - box.nominal[name]
        for name, tensor in subject.placement.tensors.items()
    }


def evaluate(oracle: GradientOracle, pattern: Mapping[str, np.ndarray]) -> Evaluation:
    """Make one pass."""
    return oracle.evaluate(tensors_of(pattern, oracle.device), SmoothAccuracy(), 1.0)


def apart_of(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    """Return the length of the difference of two gradients over that of the first."""
    squares = [
        (
            float(((array_of(first[name]) - array_of(second[name])).astype(np.float64) ** 2).sum()),
            float((array_of(first[name]).astype(np.float64) ** 2).sum()),
        )
        for name in first
    ]
    difference, length = (sum(column) for column in zip(*squares, strict=True))
    return float(np.sqrt(difference / length)) if length > 0 else 0.0


def training(model: Path, run: Run) -> Iterator[Row]:
    """Train one epoch on both."""
    network, data = load_network(model), model.with_suffix(".toml")
    spent: dict[str, tuple[float, float]] = {}
    for kind in dict.fromkeys(("cpu", run.device_type)):
        settings = TrainingSettings(
            epochs=1, batch=16, learning_rate=1e-4, search_passes=1, draws=0, device_type=kind
        )
        session = open_session(
            network,
            resolve_profile(DEVICE, None),
            load_data(data, inputs=network.inputs, part="train"),
            load_data(data, inputs=network.inputs),
            settings,
            workers=run.workers,
        )
        job = session.job(recipe_of("plain").method({}), settings)
        with one_torch_thread():
            state = start_training(job, session.parameters)
            begin = time.perf_counter()
            loss, _ = train_epoch(job, state, 1)
            spent[kind] = time.perf_counter() - begin, loss
    (processor, expected), (device, loss) = spent["cpu"], spent[run.device_type]
    apart = abs(loss - expected) / max(abs(expected), 1e-12)
    yield Row(
        f"{model.stem}: an epoch of plain training, {len(session.split.training)} samples",
        processor,
        device,
        f"losses {expected:.5g} and {loss:.5g}",
        apart <= MOST_LOSS_APART,
    )


def main() -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device-type", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--network", choices=list(NETWORKS), default="resnet50")
    parser.add_argument("--training-network", choices=list(NETWORKS), default="resnet18")
    parser.add_argument("--small", action="store_true", help="64 x 64 pixels, 10 classes, few")
    parser.add_argument("--samples", type=int, help="Samples that are scored")
    parser.add_argument("--trials", type=int, help="Chips that are drawn")
    parser.add_argument("--training", type=int, help="Samples to train on")
    parser.add_argument("--seconds", type=float, default=420.0, help="No part begins after these")
    parser.add_argument("--workers", type=int, default=available_processors())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="Folder for network and table")
    options = parser.parse_args()
    usual = {"samples": 16, "trials": 30, "training": 40}
    for name, large in {"samples": 256, "trials": 60, "training": 80}.items():
        if getattr(options, name) is None:
            setattr(options, name, usual[name] if options.small else large)
    device = open_device(options.device_type)
    begin = time.perf_counter()
    model = write_files(options.network, options)
    named = SubjectSettings(model, model.with_suffix(".toml"), device=DEVICE, tolerance=0.05)
    inspection = inspect_subject(named)
    subject = Subject(
        open_subject(named, inspection, workers=options.workers), inspection.placement
    )
    print(f"opened after {time.perf_counter() - begin:.0f} s", flush=True)
    run = Run(
        seed=options.seed,
        workers=options.workers,
        device_type=options.device_type,
        attack_samples=min(32, options.samples),
    )
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "trials": lambda: trials(subject, run, options.trials),
        "passes": lambda: passes(subject, run),
        "training": lambda: training(
            model
            if options.training_network == options.network
            else write_files(options.training_network, options),
            run,
        ),
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    lines = [
        f"{options.network}, {options.samples} samples, {options.workers} threads, {device.type}"
        f" ({name}), torch {torch.__version__}",
        "",
        "| what | processor, s | device, s | ratio | agreement |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    agrees = True
    for part, rows in parts.items():
        if time.perf_counter() - begin > options.seconds:
            lines.append(f"| {part} | - | - | - | left out after {options.seconds:g} s |")
            print(lines[-1], flush=True)
            continue
        try:
            for row in rows():
                lines.append(str(row))
                agrees = agrees and row.agrees
                print(row, flush=True)
        except CimrobustError as err:
            lines.append(f"| {part} | - | - | - | refused: {err} |")
            print(lines[-1], flush=True)
            agrees = False
    (options.out / "gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - begin:.0f} s in all: {options.out / 'gpu.md'}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
