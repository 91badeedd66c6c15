"""What a pass of the search costs on recurrent networks and attention, as a multiple of plain
onnxruntime inference of the same samples.

Run it as ``python tests/benchmarks/bench_recurrent.py [words of a network's name ...]``;
docs/lab-book/performance.md keeps the figures. A pass is one forward and backward run
of the torch twin over 60 samples; the plain run feeds the samples to the model file as it is, one
at a time where it takes one. The goal is a ratio of at most 15.
Both run on one thread and are measured in processor time, so that other work on the machine matters
little.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from recurrent_networks import NETWORKS

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.sessions import open_session, run_session
from cimrobust.engine.subject import Subject
from cimrobust.mapping.box import box_of
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search.gradients import open_gradients
from cimrobust.search.losses import SmoothAccuracy
from cimrobust.search.torch_patterns import tensors_of

SAMPLES = 60
REPEATS = 7
GOAL = 15.0


def seconds(work: Callable[[], object]) -> float:
    """Return the least processor time of a few runs, after one to warm up."""
    work()
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def opened(path: Path) -> tuple[Runtime, Placement]:
    """Open a network on random samples, labelled with its own decisions."""
    network = load_network(path)
    scan = scan_layers(network)
    placement = place(
        scan, DeviceProfile("bench", "bench", device=DeviceTable(tolerance=0.03, sigma=0.01))
    )
    shape = [size for size in (network.inputs[0].shape or ())[1:] if isinstance(size, int)]
    samples = np.random.default_rng(1).normal(size=(SAMPLES, *shape)).astype(np.float32)
    source = DataSource("bench", {}, {}, SAMPLES)
    return (
        open_network(
            network, scan, placement, DataSet({"x": samples}, {}, None, Decision(), source)
        ),
        placement,
    )


def measure(name: str, folder: Path) -> float:
    """Print one row; return the ratio."""
    path = folder / "model.onnx"
    onnx.save(NETWORKS[name](), path)
    runtime, placement = opened(path)
    device = torch.device("cpu")
    found = open_gradients(
        Subject(runtime, placement), Run(effort="quick", device_type=device.type)
    )
    oracle = found.oracle
    assert oracle is not None, found.reason
    zero, loss = tensors_of(box_of(placement).zero(), device), SmoothAccuracy()
    samples, fixed = (
        runtime.dataset.inputs,
        isinstance((runtime.network.inputs[0].shape or (None,))[0], int),
    )
    session, output = open_session(path), runtime.engine.output
    runs = (
        [{"x": samples["x"][index : index + 1]} for index in range(SAMPLES)]
        if fixed
        else [dict(samples)]
    )
    plain = seconds(lambda: [run_session(session, output, feed) for feed in runs])
    a_pass = seconds(lambda: oracle.evaluate(zero, loss, 1.0))
    weights = sum(tensor.nominal.size for tensor in placement.tensors.values())
    print(
        f"| {name} | {weights} | {1e3 * plain:.1f} | {1e3 * a_pass:.1f} | {a_pass / plain:.1f} |",
        flush=True,
    )
    return a_pass / plain


def main(words: list[str]) -> int:
    """Measure the networks whose name has all words; all without words."""
    torch.set_num_threads(1)
    print("| network | weights | plain, ms | pass, ms | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        ratios = [
            measure(name, Path(folder)) for name in NETWORKS if all(word in name for word in words)
        ]
    return int(max(ratios, default=0.0) > GOAL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
