"""Cost and output error beside aihwkit-lightning (IBM, MIT licence), with equal settings in the
same run.

Install it with ``pip install --group simulators``, then run ``python
tests/benchmarks/bench_lightning.py``; docs/lab-book/performance.md keeps the figures. The LeNet-5
of bench_crossbar, 256 inputs, 2 threads, a Gaussian of 2 % of the largest weight on every weight,
redrawn for every pass; then with 8-bit converters in one
pass on 128-row tiles, the range of a code being 128 times that of input times weight in both.
Errors of one layer of 128 x 84 are compared where both
compute the same model: inputs of 8 bits, with and without the converters of the bit lines.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from bench_crossbar import SAMPLES, lenet5
from onnx import helper, numpy_helper

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers

try:
    from aihwkit_lightning.nn.conversion import convert_to_analog
    from aihwkit_lightning.simulator.configs.configs import TorchInferenceRPUConfig
    from aihwkit_lightning.simulator.parameters.enums import (
        WeightNoiseInjectionType,
        WeightQuantizationType,
    )
except ImportError:
    sys.exit("aihwkit-lightning is not installed: pip install --group simulators")

SIGMA, TILE_ROWS, THREADS, REPEATS = 0.02, 128, 2, 15
LEVELS = 2**8 - 2


def ours(*, dac: bool, adc: bool) -> DeviceProfile:
    """Return Gaussian devices of one slice, 8 bits and a sign a weight."""
    base = load_profile("rram-write-verify-3pct")
    device = DeviceTable(bits=8, tolerance=None, distribution="gaussian", sigma=SIGMA)
    converters = {
        "dac": DacTable(8, encoding="signed") if dac else None,
        "adc": AdcTable(8, range="full_scale") if adc else None,
    }
    return replace(base, device=device, tile=replace(base.tile, rows=TILE_ROWS), **converters)


def theirs(
    module: torch.nn.Module, *, dac: bool, adc: bool, ranges: list[float]
) -> torch.nn.Module:
    """Return the analog form of a module, in training mode: that is where it draws weights."""
    config = TorchInferenceRPUConfig()
    config.mapping.max_input_size = TILE_ROWS
    config.modifier.noise_type = WeightNoiseInjectionType.ADD_NORMAL
    config.modifier.std_dev = SIGMA
    config.modifier.quantization_type = WeightQuantizationType.DISCRETIZE
    config.modifier.res = 2**9 - 2
    if dac:
        config.pre_post.input_range.enable = True
        config.pre_post.input_range.init_from_data = 0
        config.forward.inp_res = LEVELS
    if adc:
        config.forward.out_bound, config.forward.out_res = float(TILE_ROWS), LEVELS
    analog = convert_to_analog(module, config, ensure_analog_root=False).train()
    layers = [
        layer for layer in analog.modules() if getattr(layer, "input_range", None) is not None
    ]
    for layer, largest in zip(layers, ranges, strict=dac):
        layer.input_range.data.fill_(largest)
    return analog


def torch_lenet(path: Path) -> torch.nn.Sequential:
    """Return the LeNet-5 of a file as a torch module with the same weights."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 16, 5),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(400, 120),
        torch.nn.ReLU(),
        torch.nn.Linear(120, 84),
        torch.nn.ReLU(),
        torch.nn.Linear(84, 10),
    )
    stored = [
        torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(path).graph.initializer
    ]
    for parameter, values in zip(net.parameters(), stored, strict=True):
        parameter.data = values
    return net


def input_ranges(net: torch.nn.Sequential, images: torch.Tensor) -> list[float]:
    """Return the largest input of every layer with weights."""
    found: list[float] = []
    x = images
    for layer in net:
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            found.append(float(x.detach().abs().max()))
        x = layer(x)
    return found


def _open(path: Path, profile: DeviceProfile, images: np.ndarray) -> tuple[Runtime, Placement]:
    network = load_network(path)
    scan = scan_layers(network)
    placement = place(scan, profile)
    data = DataSet(
        {network.inputs[0].name: images},
        {},
        None,
        Decision(),
        DataSource("random", {}, {}, len(images)),
    )
    return (
        open_network(network, scan, placement, data, calibration=data, workers=THREADS),
        placement,
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cost(path: Path, images: np.ndarray) -> None:
    """Print how many times plain inference both take for chips redrawn and run, `THREADS` chips a
    repeat.
    """
    net = torch_lenet(path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(THREADS)
    ]
    pool, tensor = ThreadPoolExecutor(THREADS), torch.from_numpy(images)
    for name, converters in (("no converters", False), ("8-bit converters", True)):
        runtime, placement = _open(path, ours(dac=converters, adc=converters), images)
        buffers = [runtime.engine.buffers(placement) for _ in range(THREADS)]
        analog = theirs(
            torch_lenet(path), dac=converters, adc=converters, ranges=input_ranges(net, tensor)
        )

        def chip(
            worker: int,
            trial: int,
            runtime: Runtime = runtime,
            placement: Placement = placement,
            buffers: Any = buffers,
        ) -> None:
            runtime.outputs(
                runtime.engine.draw(placement, seed=0, trial=trial, out=buffers[worker])
            )

        def run_analog(analog: torch.nn.Module = analog) -> None:
            with torch.no_grad():
                for _ in range(THREADS):
                    analog(tensor)

        ratios: tuple[list[float], list[float]] = ([], [])
        for trial in range(REPEATS + 1):
            plain = min(
                _seconds(lambda: list(pool.map(lambda own: own.run(None, {"x": images}), sessions)))
                for _ in range(3)
            )
            ratios[0].append(
                _seconds(
                    lambda: list(pool.map(lambda worker: chip(worker, trial), range(THREADS)))  # noqa: B023
                )
                / plain
            )
            ratios[1].append(_seconds(run_analog) / plain)
        mine, other = (statistics.median(values[1:]) for values in ratios)
        print(
            f"{name}: cimrobust {mine:.2f}, aihwkit-lightning {other:.2f} times plain onnxruntime"
            " inference",
            flush=True,
        )


def errors(folder: Path) -> None:
    """Print the standard deviation of the output error of one layer over 200 chips, as both compute
    it.
    """
    generator = np.random.default_rng(3)
    weight, x = (
        generator.normal(size=(84, 128)).astype(np.float32),
        generator.random((64, 128), dtype=np.float32),
    )
    infos = [
        helper.make_tensor_value_info(name, 1, ["n", size])
        for name, size in (("x", 128), ("y", 84))
    ]
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)],
        "one",
        infos[:1],
        infos[1:],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / "layer.onnx"
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path
    )
    exact = x @ weight.T
    for name, adc in (("8-bit inputs", False), ("8-bit inputs and sums", True)):
        runtime, placement = _open(path, ours(dac=True, adc=adc), x)
        mine = (
            np.stack(
                [
                    runtime.outputs(runtime.engine.draw(placement, seed=1, trial=trial))
                    for trial in range(200)
                ]
            )
            - exact
        )
        layer = torch.nn.Linear(128, 84, bias=False)
        layer.weight.data = torch.from_numpy(weight)
        torch.manual_seed(1)
        analog = theirs(torch.nn.Sequential(layer), dac=True, adc=adc, ranges=[float(x.max())])
        with torch.no_grad():
            other = np.stack([analog(torch.from_numpy(x)).numpy() for _ in range(200)]) - exact
        print(
            f"{name}: standard deviation of the output error {mine.std():.4f} (cimrobust),"
            f" {other.std():.4f} (aihwkit-lightning)"
        )


def main() -> int:
    """Compare cost and errors."""
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lenet5(folder / "lenet.onnx")
        images = np.random.default_rng(1).random((SAMPLES, 1, 32, 32), dtype=np.float32)
        cost(folder / "lenet.onnx", images)
        errors(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
