"""How tight the certified bound is: the tolerance at which half of the inputs are certified against the one at which an attack on each input breaks half.

    python tests/benchmarks/bench_certify.py [MODEL ...] [--inputs N]

Inputs are the first ones of the model's data that the quantised network without deviation decides right. Tolerances are in percent of the conductance range,
per input on a grid of 16 steps an octave. Seconds are of one call of `certify` with one thread at the size of box at which half are certified.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.certify.network import BoundedNetwork, open_bounds
from cimrobust.data.load import load_data
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.placement import Placement
from cimrobust.pipeline.inspection import inspect_model
from tests.unit.certify.attack import PerInputAttack

ROOT = Path(__file__).resolve().parents[2]
ZOO = Path(os.environ.get("CIMROBUST_ZOO", ROOT.parent / "shared" / "zoo"))
MODELS = {"breast_cancer_mlp": 100, "mnist_mlp_256x2": 60, "acasxu_1_1": 60, "digits_cnn": 40, "mnist_cntk_opset8": 30}


def opened(name: str, limit: int) -> tuple[Runtime, Placement]:
    """Open a sample or a model of the zoo."""
    own = ROOT / "samples" / f"{name}.onnx"
    model = own if own.exists() else ZOO / "models" / f"{name}.onnx"
    inspection = inspect_model(model, device="rram-write-verify-3pct", tolerance=None)
    description = model.with_suffix(".toml") if own.exists() else ZOO / f"{name}.toml"
    dataset = load_data(str(description), inputs=inspection.network.inputs, limit=limit)
    return open_network(inspection.network, inspection.scan, inspection.placement, dataset), inspection.placement


def measure(name: str, count: int) -> str:
    """Return the row of a model."""
    runtime, placement = opened(name, 3 * count)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    output = runtime.plain.run(placement.nominal(), runtime.dataset.inputs, runtime.dataset.constants)
    chosen = np.flatnonzero(runtime.task.right(output).reshape(-1))[:count]
    percent = 100.0 * placement.profile.tolerance_fraction()
    interval = largest_certified_tolerance(network, method="interval", samples=chosen)
    linear = largest_certified_tolerance(network, branching=None, samples=chosen)
    full = largest_certified_tolerance(network, samples=chosen)
    attack = PerInputAttack(runtime, placement, network=network)
    broken = np.array([attack.break_scale(int(sample), max(size, 1e-5), reach=8.0) for sample, size in zip(chosen, full, strict=True)])
    assert (broken > full).all(), "no attack may break a certified input"
    half = float(np.median(full))
    started = time.perf_counter()
    certify(network, scale=half, samples=chosen)
    seconds = (time.perf_counter() - started) * 1000 / len(chosen)
    sizes = [percent * float(np.median(values)) for values in (interval, linear, full, broken)]
    ratios = [sizes[3] / sizes[2], sizes[3] / sizes[1]]
    return (
        f"| {name} | {len(chosen)} | "
        + " | ".join(f"{size:.4g}" for size in sizes)
        + f" | {ratios[0]:.2f} | {ratios[1]:.2f} | {seconds:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--inputs", type=int)
    arguments = parser.parse_args()
    print(
        "| model | inputs | interval, half % | linear, half % | with branching, half % | attack, half % | ratio | ratio without branching | s per 1000 |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with one_torch_thread():
        for name in arguments.models:
            print(measure(name, arguments.inputs or MODELS.get(name, 40)), flush=True)


if __name__ == "__main__":
    main()
