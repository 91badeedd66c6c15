"""What the certified bound of the first samples costs at an effort, as an analysis makes it.

    python tests/benchmarks/bench_certify_stage.py MODEL:DATA:SAMPLES MODEL:DATA:SAMPLES
    python tests/benchmarks/bench_certify_stage.py --code FOLDER MODEL:DATA:SAMPLES

Every network is a process of its own with one thread; seconds are the processor's. `--code`
measures the package in another folder, such as an older commit, with its compiled kernel; run it by
a Python in which cimrobust is not installed in editable form. The digest is of the scores and the
largest boxes, to compare two versions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from cimrobust.certify.bound_summary import certify_run
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.run import Run

DEVICE = "rram-write-verify-3pct"


def measure(model: Path, data: str, samples: int, effort: str) -> str:
    """Bound the samples of one network; return a row of the table."""
    inspection = inspect_model(model, device=DEVICE)
    dataset = load_data(data, inputs=inspection.network.inputs, limit=samples)
    placement = inspection.placement
    runtime = open_network(inspection.network, inspection.scan, placement, dataset)
    with one_torch_thread():
        start = time.process_time()
        made = certify_run(Subject(runtime, placement), Run(effort=effort, workers=1))
        seconds = time.process_time() - start
    found = {
        "score": None if made.score is None else made.score.value,
        "curve": [point.score.value for point in made.curve],
        "largest": None if made.largest is None else made.largest.tolist(),
    }
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()[:12]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| `{model.stem}` | {samples} | {seconds:.2f} | {peak:.0f} | {found['score']} | {digest} |"
    )


def main() -> None:
    """Print the table, or one row for the process that makes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="MODEL:DATA:SAMPLES")
    parser.add_argument("--effort", default="quick")
    parser.add_argument("--code", type=Path, help="Folder that the package is taken from")
    parser.add_argument("--one", action="store_true", help="Measure here, print a row")
    options = parser.parse_args()
    if options.one:
        model, data, samples = options.networks[0].split(":")
        print(measure(Path(model), data, int(samples), options.effort))
        return
    print(
        "| network | samples | seconds | peak, MB | certified | digest |\n|---|---|---|---|---|---|"
    )
    environment = dict(os.environ)
    if options.code is not None:
        environment["PYTHONPATH"] = str(options.code.absolute())
    for network in options.networks:
        command = [sys.executable, __file__, "--one", "--effort", options.effort, network]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
