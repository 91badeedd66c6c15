"""What opening a session costs small networks, with and without a template optimised once.

    python tests/benchmarks/bench_small_networks.py [model.onnx ...] > table.md

Without models: LeNet-5 on 256 random images. Processor time of one thread, medians of blocks of
chips; plain onnxruntime inference, both kinds of chips and their parts are taken in turn, so that a
busy machine slows all of them. Outputs are compared bit for bit; a difference ends the benchmark.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from bench_crossbar import lenet5

from cimrobust.device.load_profile import load_profile
from cimrobust.engine.batches import run_batches
from cimrobust.engine.kernel import program_chip
from cimrobust.engine.ort import OrtEngine
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.save import with_weights
from cimrobust.onnx_io.scan import scan_layers

CHIPS = 20
#: More sessions than a template waits for.
WARM = 60


class _NoTemplate:
    """Stands in for a template that is never made."""

    def for_next(self) -> None:
        return None


def _engines(model: Path) -> tuple[OrtEngine, OrtEngine, Placement]:
    """Return an engine without templates, one with, and the placement of the network."""
    network = load_network(model)
    scan = scan_layers(network)
    profile = load_profile("rram-differential-3pct")
    placement = place(scan, replace(profile, device=replace(profile.device, bits=8)))
    plain, optimised = (OrtEngine(deploy(network, scan)) for _ in range(2))
    plain._late = _NoTemplate()  # type: ignore[assignment]
    return plain, optimised, placement


def _inputs(engine: OrtEngine, samples: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    return {
        spec.name: random.random(
            (samples, *(size if isinstance(size, int) else 4 for size in (spec.shape or ())[1:])),
            dtype=np.float32,
        )
        for spec in engine.deployed.inputs
    }


def _median_ms(work: Callable[[], object], times: list[float]) -> None:
    began = time.process_time()
    for _ in range(CHIPS):
        work()
    times.append(1e3 * (time.process_time() - began) / CHIPS)


def rows(model: Path, samples: int, blocks: int) -> Iterator[str]:
    """Yield the row of a network."""
    plain, optimised, placement = _engines(model)
    chip = plain.draw(placement, seed=0, trial=0)
    for _ in range(WARM):
        optimised.open(chip).close()
    assert optimised._late is not None
    name = f"| `{model.stem}` | {sum(map(np.size, chip.values()))} |"
    if optimised._late.for_next() is None:
        yield f"{name} no template | | | | |"
        return
    x, buffer = _inputs(plain, samples), plain.buffers(placement)
    for trial in range(3):
        drawn = program_chip(placement, seed=0, trial=trial)
        one, other = plain.run(drawn, x), optimised.run(drawn, x)
        assert one.tobytes() == other.tobytes(), "outputs differ"
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    file = with_weights(plain.deployed, placement.nominal()).SerializeToString()
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def inference() -> None:
        run_batches(
            lambda feed, _: np.asarray(session.run([plain.output], feed)[0]),
            x,
            {},
            plain.feeding,
        )

    def drawn_by(engine: OrtEngine) -> Callable[[], object]:
        return lambda: engine.run(engine.draw(placement, seed=0, trial=1, out=buffer), x)

    ways: dict[str, tuple[Callable[[], object], list[float]]] = {
        "inference": (inference, []),
        "open": (lambda: plain.open(chip).close(), []),
        "open optimised": (lambda: optimised.open(chip).close(), []),
        "chip": (drawn_by(plain), []),
        "chip optimised": (drawn_by(optimised), []),
    }
    for _ in range(blocks):
        for work, times in ways.values():
            _median_ms(work, times)
    found = {way: statistics.median(times) for way, (_, times) in ways.items()}
    before, after = (found[way] / found["inference"] for way in ("chip", "chip optimised"))
    yield (
        f"{name} {found['open']:.2f} | {found['open optimised']:.2f} | {found['inference']:.1f} |"
        f" {before:.2f} | {after:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=11)
    arguments = parser.parse_args()
    print(
        "| network | weights | opening, ms | optimised | plain pass, ms | chip, times | optimised |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        models = arguments.models
        if not models:
            models = [Path(folder) / "lenet5.onnx"]
            lenet5(models[0])
        for model in models:
            for row in rows(model, arguments.samples, arguments.blocks):
                print(row, flush=True)


if __name__ == "__main__":
    main()
