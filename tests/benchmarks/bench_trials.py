"""What a drawn chip costs beside the inference itself: T trials against T plain onnxruntime passes
over the same inputs.

Run it as ``python tests/benchmarks/bench_trials.py [model ...]``; docs/lab-book/performance.md
keeps the figures. The goal is a ratio of at most 1.1.
On a machine that does other work too, the ratio of processor time is the steadier one. The plain
pass uses one session that is opened once, with onnxruntime's default settings, the same batches and
the same number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.data.load_dataset import load_data
from cimrobust.device.load_profile import load_profile
from cimrobust.engine.batches import run_batches
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.parallel import map_ordered
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.montecarlo.trials import run_trials
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import TensorSpec
from cimrobust.onnx_io.save import with_weights
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run

ZOO = Path(__file__).resolve().parents[3] / "shared" / "zoo"
GOAL = 1.1


@dataclass(frozen=True)
class Case:
    """A network, how many chips to draw in one measurement, and how often to measure."""

    model: Path
    data: Callable[[tuple[TensorSpec, ...]], DataSet]
    trials_per_worker: int
    repeats: int


def resnet18(path: Path) -> None:
    """Write a ResNet-18 for 32x32 images, 11 M random weights, BatchNormalization apart."""
    generator = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []

    def keep(array: np.ndarray) -> str:
        stored.append(numpy_helper.from_array(array.astype(np.float32), f"w{len(stored)}"))
        return str(stored[-1].name)

    def node(op: str, inputs: list[str], **attributes: object) -> str:
        output = f"t{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [output], name=f"{op}{len(nodes)}", **attributes))
        return output

    def conv(x: str, inside: int, outside: int, size: int, stride: int) -> str:
        weights = keep(
            generator.normal(0, (2 / (inside * size * size)) ** 0.5, (outside, inside, size, size))
        )
        y = node(
            "Conv",
            [x, weights],
            strides=[stride] * 2,
            pads=[size // 2] * 4,
            kernel_shape=[size] * 2,
        )
        one, zero = np.ones(outside), np.zeros(outside)
        return node("BatchNormalization", [y, keep(one), keep(zero), keep(zero), keep(one)])

    x, channels = node("Relu", [conv("x", 3, 64, 3, 1)]), 64
    for width, stride in (
        (64, 1),
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
    ):
        inner = node("Relu", [conv(x, channels, width, 3, stride)])
        shortcut = x if (channels, stride) == (width, 1) else conv(x, channels, width, 1, stride)
        x, channels = (
            node("Relu", [node("Add", [conv(inner, width, width, 3, 1), shortcut])]),
            width,
        )
    pooled = node("Flatten", [node("GlobalAveragePool", [x])])
    y = node(
        "Gemm", [pooled, keep(generator.normal(0, 0.05, (10, 512))), keep(np.zeros(10))], transB=1
    )
    shape = (
        [helper.make_tensor_value_info("x", 1, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info(y, 1, ["N", 10])],
    )
    graph = helper.make_graph(nodes, "resnet18", *shape, stored)
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path
    )


def _random_images(count: int, inputs: tuple[TensorSpec, ...]) -> DataSet:
    images = np.random.default_rng(1).random((count, 3, 32, 32), dtype=np.float32)
    return DataSet(
        {inputs[0].name: images}, {}, None, Decision(), DataSource("random", {}, {}, count)
    )


def _zoo_data(name: str, count: int, inputs: tuple[TensorSpec, ...]) -> DataSet:
    return load_data(str(ZOO / f"{name}.toml"), inputs=inputs, limit=count)


def _plain_pass(runtime: Runtime, session: ort.InferenceSession, _: int) -> np.ndarray:
    def run(feed: dict[str, np.ndarray], _batch: slice) -> np.ndarray:
        return np.asarray(session.run([runtime.engine.output], feed)[0])

    return run_batches(
        run, dict(runtime.dataset.inputs), dict(runtime.dataset.constants), runtime.engine.feeding
    )


@dataclass(frozen=True)
class Seconds:
    """What one measurement took: on the clock, and of processor time in all threads."""

    wall: float
    processor: float


def _timed(work: Callable[[], object]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def _plain(runtime: Runtime, placement: Placement, *, trials: int, workers: int) -> Seconds:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = with_weights(runtime.deployed, placement.nominal()).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(
        [runtime.engine.output], {name: array[:1] for name, array in runtime.dataset.inputs.items()}
    )
    return _timed(
        lambda: list(
            map_ordered(partial(_plain_pass, runtime, session), range(trials), workers=workers)
        )
    )


def _trials(runtime: Runtime, placement: Placement, *, trials: int, workers: int) -> Seconds:
    return _timed(
        lambda: run_trials(Subject(runtime, placement), Run(1, workers), num_trials=trials)
    )


def _parts(runtime: Runtime, placement: Placement) -> tuple[float, float]:
    """Return seconds of programming one chip into arrays that exist, and of opening a session with
    it.
    """
    buffer = {
        name: np.empty(tensor.shape, np.float32) for name, tensor in placement.tensors.items()
    }
    program, opening = [], []
    for trial in range(5):
        begin = time.perf_counter()
        weights = program_chip(placement, seed=1, trial=trial, out=buffer)
        middle = time.perf_counter()
        runtime.plain.open(weights).close()
        program.append(middle - begin)
        opening.append(time.perf_counter() - middle)
    return min(program), min(opening)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def measure(name: str, case: Case, workers_list: list[int]) -> bool:
    """Print one line per number of workers; return whether all ratios reach the goal."""
    network = load_network(case.model)
    scan = scan_layers(network)
    placement = place(scan, load_profile("rram-write-verify-3pct"))
    runtime = open_network(
        network, scan, placement, case.data(network.inputs), workers=max(workers_list)
    )
    program, opening = _parts(runtime, placement)
    weights = sum(layer.num_weights for layer in scan.layers)
    devices = sum(tensor.num_devices for tensor in placement.tensors.values())
    _say(
        f"{name}: {weights} weights, {devices} devices, {runtime.dataset.num_samples} inputs in"
        f" batches of {runtime.engine.batch_size}; programming {program * 1e3:.1f} ms, opening"
        f" {opening * 1e3:.1f} ms"
    )
    reached = True
    for workers in workers_list:
        trials = case.trials_per_worker * workers
        pairs = []
        for _ in range(case.repeats):  # plain and trials in turn, so that a busy machine slows both
            plain = _plain(runtime, placement, trials=trials, workers=workers)
            pairs.append((_trials(runtime, placement, trials=trials, workers=workers), plain))
        ratio = statistics.median(drawn.wall / plain.wall for drawn, plain in pairs)
        processor_ratio = statistics.median(
            drawn.processor / plain.processor for drawn, plain in pairs
        )
        drawn_ms, plain_ms = (
            1e3 / trials * min(seconds.wall for seconds in kind)
            for kind in zip(*pairs, strict=True)
        )
        reached &= ratio <= GOAL
        _say(
            f"  {workers} threads: {trials} trials, {drawn_ms:.1f} ms each, plain {plain_ms:.1f}"
            f" ms, ratio {ratio:.3f} (goal {GOAL}; of processor time {processor_ratio:.3f})"
        )
    return reached


def main() -> int:
    """Measure the networks named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--inputs", type=int, default=2000)
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "resnet18.onnx"
        cases = {
            name: Case(
                ZOO / "models" / f"{name}.onnx", partial(_zoo_data, name, settings.inputs), 10, 5
            )
            for name in ("mnist_cnn_bn", "cifar_resnet4b")
        }
        cases["resnet18"] = Case(large, partial(_random_images, settings.inputs), 1, 3)
        chosen = settings.models or list(cases)
        if "resnet18" in chosen:
            resnet18(large)
        reached = [measure(name, cases[name], settings.workers) for name in chosen]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
