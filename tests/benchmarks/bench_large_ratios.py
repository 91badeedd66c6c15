"""What a chip and a pass of the search cost on a large network, in plain runs of the same network.

    python tests/benchmarks/large_networks.py resnet50 --out out/large --samples 32
    python tests/benchmarks/bench_large_ratios.py out/large/resnet50.onnx

Processor time of one thread, medians, everything in turn so that a busy machine slows all alike:

- 8 passes of the search (loss and gradients of all stored weights at corners of the box) against
  8 of plain torch: the network as onnx2torch converts it, cross-entropy and `backward`, the same
  samples in the same batches;
- a chip, drawn and scored, against one pass of plain onnxruntime over the same samples; where
  aihwkit-lightning is installed (`pip install --group simulators`), one of its redrawn chips
  (2 % Gaussian, 8 bits, 128-row tiles, no converters) beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cimrobust.twin  # noqa: F401

# isort: split
# onnx2torch asks for torchvision, and cimrobust.twin helps where that does not fit torch.
import onnx2torch
import onnxruntime
import torch
from torch.nn import functional

from cimrobust.engine.kernel import program_chip
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.pipeline.opened_subject import inspect_subject, open_subject
from cimrobust.run import Run
from cimrobust.search.gradients import open_gradients
from cimrobust.search.losses import CrossEntropy
from cimrobust.search.torch_patterns import tensors_of
from cimrobust.settings.subject_settings import SubjectSettings

try:
    from aihwkit_lightning.nn.conversion import convert_to_analog
    from aihwkit_lightning.simulator.configs.configs import TorchInferenceRPUConfig
    from aihwkit_lightning.simulator.parameters.enums import (
        WeightNoiseInjectionType,
        WeightQuantizationType,
    )
except ImportError:
    convert_to_analog = None

DEVICE = "rram-write-verify-3pct"
PASSES = 8
TILE_ROWS = 128


def seconds(work: Callable[[], object]) -> float:
    """Return processor seconds of a piece of work, in all threads."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time every work once a round; the first round prepares kernels and does not count."""
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(repeats + 1)]
    return {name: [spent[name] for spent in rounds[1:]] for name in works}


def say(what: str, spent: dict[str, list[float]], reference: str) -> None:
    """Print the ratios of everything to a reference, medians over rounds."""
    print(f"{what}, {statistics.median(spent[reference]):.3g} s {reference}:", flush=True)
    for name, values in spent.items():
        ratios = [value / base for value, base in zip(values, spent[reference], strict=True)]
        print(
            f"  {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def passes(subject: Subject, model: Path, samples: int, repeats: int) -> None:
    """Measure 8 passes of the search and 8 of plain torch."""
    run = Run(seed=0, workers=1, attack_samples=samples)
    oracle = open_gradients(subject, run).oracle
    assert oracle is not None
    plain = onnx2torch.convert(str(model)).eval()
    weights = [value for value in plain.parameters() if value.dim() > 1]
    batches = [
        (torch.from_numpy(x.copy()), torch.from_numpy(y))
        for x, y in _batches(subject, oracle.num_samples, oracle.run_together)
    ]
    generator = np.random.default_rng(0)
    corners = [
        tensors_of(subject.box.random_corner(generator), oracle.device) for _ in range(PASSES)
    ]

    def searched() -> None:
        for corner in corners:
            oracle.evaluate(corner, CrossEntropy(), 1.0)

    def plainly() -> None:
        with one_torch_thread():
            for _ in range(PASSES):
                for x, y in batches:
                    torch.autograd.grad(
                        functional.cross_entropy(plain(x), y, reduction="sum"), weights
                    )

    spent = in_turn({"plain torch": plainly, "search": searched}, repeats)
    say(f"{PASSES} passes of {oracle.num_samples} samples", spent, "plain torch")


def _batches(subject: Subject, count: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    data = subject.runtime.dataset
    x, y = next(iter(data.inputs.values()))[:count], np.asarray(data.labels)[:count]
    return [(x[start : start + size], y[start : start + size]) for start in range(0, count, size)]


def chips(subject: Subject, model: Path, repeats: int) -> None:
    """Measure one drawn chip and one pass of plain onnxruntime."""
    runtime, size = subject.runtime, subject.runtime.engine.batch_size
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options)
    (name, x), *_ = runtime.dataset.inputs.items()
    batches = [x[start : start + size] for start in range(0, len(x), size)]
    trials = iter(range(10_000))

    def drawn() -> None:
        chip = program_chip(subject.placement, seed=0, trial=next(trials))
        runtime.outputs(chip, threads=1)

    works: dict[str, Callable[[], object]] = {
        "plain onnxruntime": lambda: [session.run(None, {name: part}) for part in batches],
        "drawn chip": drawn,
    }
    lightning = analog(model)
    if lightning is None:
        print("aihwkit-lightning is not installed: pip install --group simulators", flush=True)
    else:
        works["aihwkit-lightning"] = lambda: _run(lightning, batches)
    say(f"a chip on {len(x)} samples", in_turn(works, repeats), "plain onnxruntime")


def analog(model: Path) -> torch.nn.Module | None:
    """Return the network in aihwkit-lightning, weights redrawn a run; None: not installed."""
    if convert_to_analog is None:
        return None
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = TILE_ROWS
    config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL
    config.modifier.std_dev = 0.02
    config.modifier.quantization_type = WeightQuantizationType.DISCRETIZE
    config.modifier.res = 2**9 - 2
    module = convert_to_analog(onnx2torch.convert(str(model)), config, ensure_analog_root=False)
    for part in module.modules():  # weights are drawn in training mode; statistics must stay
        part.training = "BatchNorm" not in type(part).__name__
    return module


def _run(module: torch.nn.Module, batches: list[np.ndarray]) -> None:
    with torch.no_grad(), one_torch_thread():
        for part in batches:
            module(torch.from_numpy(part.copy()))


def main() -> None:
    """Measure the network of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="Its data description lies beside it")
    parser.add_argument("--attack-samples", type=int, default=8, help="Samples of a pass")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--parts", nargs="*", default=["passes", "chips"])
    options = parser.parse_args()
    named = SubjectSettings(options.model, options.model.with_suffix(".toml"), device=DEVICE)
    inspection = inspect_subject(named)
    subject = Subject(open_subject(named, inspection, workers=1), inspection.placement)
    if "passes" in options.parts:
        passes(subject, options.model, options.attack_samples, options.repeats)
    if "chips" in options.parts:
        chips(subject, options.model, options.repeats)


if __name__ == "__main__":
    main()
