"""What a chip with converters costs: one chip redrawn and run, as a multiple of plain onnxruntime
inference of the same inputs.

Run it as ``python tests/benchmarks/bench_crossbar.py``; docs/lab-book/performance.md keeps the
figures. Plain inference is the fastest of one session with all threads,
pieces of the inputs side by side, and whole passes side by side. Goals for LeNet-5, 256 inputs, 2
threads: 1.2 without converters, 4 with 8-bit converters in one pass on
128 x 128 tiles, 20 with 7 input bits in series, 40 with 2 weight slices on top.
"""

from __future__ import annotations

import argparse
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
from bench_trials import resnet18
from onnx import helper, numpy_helper

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.crossbar_product import (
    CellLayout,
    ConvGeometry,
    Crossbar,
    InputCoding,
    OutputCoding,
)
from cimrobust.engine.open import Runtime, open_network
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers

GOALS = {
    "no converters": 1.2,
    "8-bit converters": 4.0,
    "7 bits in series": 20.0,
    "and 2 slices": 40.0,
}
SAMPLES = 256


def lenet5(path: Path) -> None:
    """Write a LeNet-5 for 32x32 images: conv 6@5x5, conv 16@5x5, 400-120-84-10, random weights."""
    generator = np.random.default_rng(0)
    stored: list[onnx.TensorProto] = []

    def keep(*shape: int) -> str:
        fan = int(np.prod(shape[1:])) or 1
        stored.append(
            numpy_helper.from_array(
                generator.normal(0, fan**-0.5, shape).astype(np.float32), f"w{len(stored)}"
            )
        )
        return str(stored[-1].name)

    nodes = []
    x = "x"
    for index, (inside, outside) in enumerate(((1, 6), (6, 16))):
        nodes.append(
            helper.make_node(
                "Conv",
                [x, keep(outside, inside, 5, 5), keep(outside)],
                [f"c{index}"],
                name=f"c{index}",
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"], name=f"r{index}"))
        nodes.append(
            helper.make_node(
                "MaxPool",
                [f"r{index}"],
                [f"p{index}"],
                name=f"p{index}",
                kernel_shape=[2, 2],
                strides=[2, 2],
            )
        )
        x = f"p{index}"
    nodes.append(helper.make_node("Flatten", [x], ["f"], name="f"))
    x = "f"
    for index, (inside, outside) in enumerate(((400, 120), (120, 84), (84, 10))):
        nodes.append(
            helper.make_node(
                "Gemm",
                [x, keep(outside, inside), keep(outside)],
                [f"g{index}"],
                name=f"g{index}",
                transB=1,
            )
        )
        x = f"g{index}"
        if index < 2:
            nodes.append(helper.make_node("Relu", [x], [f"h{index}"], name=f"h{index}"))
            x = f"h{index}"
    shapes = (
        [helper.make_tensor_value_info("x", 1, ["N", 1, 32, 32])],
        [helper.make_tensor_value_info(x, 1, ["N", 10])],
    )
    graph = helper.make_graph(nodes, "lenet5", *shapes, stored)
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]), path
    )


def profiles() -> dict[str, DeviceProfile]:
    """Return the four settings, those of the measurements of other simulators."""
    base = load_profile("rram-differential-3pct")
    one_slice = replace(base, device=replace(base.device, bits=8))
    adc = AdcTable(8, range="full_scale")
    serial = DacTable(8, bits_per_pass=1, encoding="signed")
    return {
        "no converters": one_slice,
        "8-bit converters": replace(one_slice, dac=DacTable(8), adc=adc),
        "7 bits in series": replace(one_slice, dac=serial, adc=adc),
        "and 2 slices": replace(base, device=replace(base.device, bits=4), dac=serial, adc=adc),
    }


def _open(path: Path, profile: DeviceProfile, workers: int) -> Runtime:
    network = load_network(path)
    scan = scan_layers(network)
    images = np.random.default_rng(1).random(
        (SAMPLES, *(int(str(size)) for size in (network.inputs[0].shape or ())[1:])),
        dtype=np.float32,
    )
    data = DataSet(
        {network.inputs[0].name: images},
        {},
        None,
        Decision(),
        DataSource("random", {}, {}, SAMPLES),
    )
    return open_network(
        network, scan, place(scan, profile), data, calibration=data, workers=workers
    )


def _plain(path: Path, images: np.ndarray, threads: int) -> list[Callable[[], object]]:
    """Return plain inference of `threads` times all images: one session with all threads; pieces
    side by side; whole passes side by side.
    """

    def session(count: int) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = count
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    whole, single, pool = (
        session(threads),
        [session(1) for _ in range(threads)],
        ThreadPoolExecutor(threads),
    )
    pieces = np.array_split(images, 2 * threads)
    return [
        lambda: [whole.run(None, {"x": images}) for _ in range(threads)],
        lambda: [
            list(pool.map(lambda piece: single[0].run(None, {"x": piece}), pieces))
            for _ in range(threads)
        ],
        lambda: list(pool.map(lambda own: own.run(None, {"x": images}), single)),
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(name: str, path: Path, *, threads: int, repeats: int) -> bool:
    """Print the four ratios of one network; tell whether the goals are met by chips side by side,
    which is how trials run.
    """
    met = True
    for setting, profile in profiles().items():
        runtime = _open(path, profile, threads)
        placement = place(scan_layers(runtime.network), profile)
        plain = _plain(path, runtime.dataset.inputs["x"], threads)
        pool, buffers = (
            ThreadPoolExecutor(threads),
            [runtime.engine.buffers(placement) for _ in range(threads)],
        )

        def chip(
            trial: int,
            buffer: int,
            inside: int,
            runtime: Runtime = runtime,
            placement: Any = placement,
            buffers: Any = buffers,
        ) -> None:
            drawn = runtime.engine.draw(placement, seed=0, trial=trial, out=buffers[buffer])
            runtime.outputs(drawn, threads=inside)

        def one_by_one(trial: int, chip: Any = chip) -> None:
            for step in range(threads):
                chip(trial + step, 0, threads)

        def side_by_side(trial: int, chip: Any = chip, pool: Any = pool) -> None:
            list(pool.map(lambda worker: chip(trial + worker, worker, 1), range(threads)))

        one_by_one(0)
        ratios: tuple[list[float], list[float]] = ([], [])
        for trial in range(repeats):
            reference = min(min(_seconds(work) for _ in range(3)) for work in plain)
            for ways, way in zip(ratios, (one_by_one, side_by_side), strict=True):
                ways.append(_seconds(lambda: way(trial)) / reference)  # noqa: B023  # called at once
        split, beside = (statistics.median(ways) for ways in ratios)
        met &= beside <= GOALS[setting]
        print(
            f"{name:10} {setting:18} {beside:7.2f} times plain inference with {threads} chips side"
            f" by side, {split:7.2f} with one chip on {threads} threads (goal {GOALS[setting]:g})",
            flush=True,
        )
    return met


def peak(threads: int = 1) -> float:
    """Return the arithmetic rate of onnxruntime's float matrix product, in multiplications and
    additions a second.
    """
    size = 2048
    values = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    infos = [helper.make_tensor_value_info(name, 1, [size, size]) for name in "abc"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])], "g", infos[:2], infos[2:]
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return (
        2
        * size**3
        / min(_seconds(lambda: session.run(None, {"a": values, "b": values})) for _ in range(5))
    )


def kernel_rates() -> None:
    """Print the rate of the kernel, converters included, as a share of onnxruntime's matrix
    product; and what more batch, tiles, bits and threads cost.
    """
    top = peak()
    print(f"onnxruntime matrix product: {top / 1e9:.0f} GFLOP/s a thread")
    for channels, size in ((64, 32), (128, 16), (256, 8), (512, 4)):
        for passes in (1, 7):
            print(
                f"3x3 convolution, {channels} channels, {size}x{size}, 128-row tiles, {passes}"
                f" passes: {100 * _conv_rate(channels, size, passes) / top:.0f} %"
            )
    base = _conv_seconds(128, 16, 1)
    for what, options in (
        ("batch 8 -> 16", {"batch": 16}),
        ("tile rows 128 -> 64", {"tile_rows": 64}),
        ("passes 1 -> 2", {"passes": 2}),
        ("threads 1 -> 2", {"threads": 2}),
    ):
        print(
            f"{what}: {_conv_seconds(128, 16, **{'passes': 1, **options}) / base:.2f} times the"
            " time"
        )


def _conv_rate(channels: int, size: int, passes: int) -> float:
    return (
        2
        * 8
        * channels
        * channels
        * size
        * size
        * 9
        * passes
        / _conv_seconds(channels, size, passes)
    )


def _conv_seconds(
    channels: int, size: int, passes: int, *, batch: int = 8, tile_rows: int = 128, threads: int = 1
) -> float:
    generator = np.random.default_rng(0)
    layout = CellLayout(1, 9 * channels, channels, tile_rows, (0, 1, 9 * channels))
    shape = (1, layout.num_row_tiles, channels)
    output = OutputCoding(
        np.ones(shape, np.float32),
        np.ones(shape, np.float32),
        -127,
        127,
        np.ones(channels, np.float32),
        np.zeros(channels, np.float32),
    )
    coding = InputCoding(40.0, 0, -127, 127, passes, 1 if passes > 1 else 0)
    array = Crossbar(
        layout,
        [generator.normal(size=9 * channels**2).astype(np.float32)],
        coding,
        output,
        for_conv=True,
    )
    x = generator.normal(size=(batch, channels, 1, size, size)).astype(np.float32)
    geometry = ConvGeometry(
        (1, size, size), (1, size, size), (1, 3, 3), (1, 1, 1), (1, 1, 1), (0, 1, 1)
    )
    return min(_seconds(lambda: array.conv(x, geometry, threads=threads)) for _ in range(5))


def main() -> int:
    """Measure both networks and the kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", choices=["lenet", "resnet", "kernel"])
    arguments = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        for name, make, repeats in (
            ("lenet", lenet5, arguments.repeats),
            ("resnet", resnet18, max(arguments.repeats // 5, 2)),
        ):
            if arguments.only in (None, name):
                path = Path(folder) / f"{name}.onnx"
                make(path)
                met &= (
                    measure(name, path, threads=arguments.threads, repeats=repeats)
                    or name != "lenet"
                )
    if arguments.only in (None, "kernel"):
        kernel_rates()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
