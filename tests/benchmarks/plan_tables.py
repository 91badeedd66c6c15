"""Compare what `cimrobust plan` expects with what `cimrobust analyze` then takes.

    python tests/benchmarks/plan_tables.py MODEL.onnx DATA.toml --effort quick --trials 100

Prints a row of a table a stage and one of the total. Both run one after the other, so that another
load of the machine meanwhile counts as an error of the plan.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Plan and run one analysis, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    known, options = parser.parse_known_args()
    command = [sys.executable, "-m", "cimrobust"]
    given = [str(known.model), "--data", str(known.data), *options]
    planned = json.loads(_output([*command, "plan", *given, "--json"]))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        _output([*command, "analyze", *given, "--out", folder])
        wall = time.perf_counter() - begin
        certificate = json.loads((Path(folder) / "certificate.json").read_text())
    taken = certificate["timings"]["stages"]
    print(f"{known.model.stem} {' '.join(options)}")
    for stage in planned["stages"]:
        if stage["stage"] in taken:
            print(_row(stage["stage"], stage["seconds"], taken[stage["stage"]]))
    print(_row("all, the command as a whole", planned["expected_seconds"], wall))


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _row(name: str, expected: float, taken: float) -> str:
    ratio = f"{expected / taken:.2f}" if taken > 0.05 else "-"
    return f"| {name} | {expected:.1f} | {taken:.1f} | {ratio} |"


if __name__ == "__main__":
    main()
