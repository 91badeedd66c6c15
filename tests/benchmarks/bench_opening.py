"""Time and memory of opening large networks, against plain passes of onnxruntime.

    python tests/benchmarks/large_networks.py resnet18 resnet50 bert --out out/large
    python tests/benchmarks/bench_opening.py --networks out/large --samples 1 4 16

Every row is a process of its own. Times are processor seconds of one thread, which a busy machine
changes little. `--code FOLDER` measures the package in another folder, such as an older commit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import cimrobust.engine.open as opening
from cimrobust.data.calibration import load_samples
from cimrobust.engine.liveness import check_liveness
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.search.gradients import _running_twin

NAMES = ("resnet18", "resnet50", "bert")
DEVICE = "rram-write-verify-3pct"


def measure(model: Path, samples: int) -> dict[str, float]:
    """Inspect and open one network; return processor seconds and peaks of memory in MB."""
    found = {"imports MB": _peak()}
    start = time.process_time()
    inspection = inspect_model(model, device=DEVICE)
    inspection.to_dict()
    found |= {"inspect s": time.process_time() - start, "inspect MB": _peak()}
    dataset, _ = load_samples(
        model.with_suffix(".toml"),
        None,
        inputs=inspection.network.inputs,
        limit=samples,
        needs_calibration=False,
    )
    check = check_liveness

    def timed(*args, **options):
        start = time.process_time()
        result = check(*args, **options)
        found["liveness s"] = time.process_time() - start
        return result

    vars(opening)["check_liveness"] = timed
    start = time.process_time()
    runtime = opening.open_network(
        inspection.network, inspection.scan, inspection.placement, dataset
    )
    found |= {"open s": time.process_time() - start, "open MB": _peak()}
    with runtime.plain.open(inspection.placement.nominal()) as network:
        network.run(dataset.inputs)
        start = time.process_time()
        network.run(dataset.inputs)
        found["pass s"] = time.process_time() - start
    start = time.process_time()
    _running_twin(runtime)
    return found | {"twin and count s": time.process_time() - start, "count MB": _peak()}


def _peak() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _row(name: str, samples: int, found: dict[str, float]) -> str:
    return (
        f"| {name} | {samples} | {found['inspect s']:.1f} |"
        f" {found['inspect MB'] - found['imports MB']:.0f} | {found['open s']:.1f} |"
        f" {found['liveness s']:.1f} | {found['liveness s'] / found['pass s']:.1f} |"
        f" {found['open MB']:.0f} | {found['twin and count s']:.1f} | {found['count MB']:.0f} |"
        f" {found['pass s']:.2f} |"
    )


def main() -> None:
    """Print the table, or one measurement for the process that makes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", type=Path, required=True, help="Folder of large_networks.py")
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--samples", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--code", type=Path, help="Folder that the package is taken from")
    parser.add_argument("--one", action="store_true", help="Measure here, print JSON")
    options = parser.parse_args()
    if options.one:
        model = options.networks / f"{options.names[0]}.onnx"
        print(json.dumps(measure(model, options.samples[0])))
        return
    print(
        "| network | samples | inspect, s | inspect, MB above imports | open, s | liveness, s |"
        " in passes | peak, MB | twin and count, s | peak, MB | plain pass, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    environment = dict(os.environ)
    if options.code is not None:
        environment["PYTHONPATH"] = str(options.code.absolute())
    for name in options.names:
        for samples in options.samples:
            command = [sys.executable, __file__, "--one", "--networks", str(options.networks)]
            command += ["--names", name, "--samples", str(samples)]
            done = subprocess.run(
                command, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            print(_row(name, samples, json.loads(done.stdout)), flush=True)


if __name__ == "__main__":
    main()
