"""What a user waits for: processor seconds of commands, from start to end.

A network of 9,472 weights (64 inputs, 128 hidden units of random weights, 10 outputs that are
fitted to the digits) and 50 samples. Every command is a process of its own, run several times in
turn with the reference, `import numpy, onnxruntime, torch`, which every analysis imports: so the
ratio holds on a busy machine too. Of each the least is printed, after every turn: a run that is
ended early has a table too. One turn comes first that is not counted, since it compiles the code.

``python tests/benchmarks/bench_first_answer.py --checkout A --checkout B`` compares two checkouts,
each with its compiled kernel; ``--only gate --only inspect`` leaves out the rest. A command that a
checkout has not, or that fails, is told on stderr and has no number.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ["-c", "import numpy, onnxruntime, torch"]
HIDDEN = 128
# Where Python may not keep what it compiles, every start compiles the package, but no library.
_SETTINGS = {"CIMROBUST_PROGRESS": "none", "PYTHONDONTWRITEBYTECODE": ""}


def write_network(folder: Path) -> None:
    """Write the network and its data."""
    samples = ROOT / "samples"
    train, rng = np.load(samples / "digits_train.npz"), np.random.default_rng(0)
    x, y = train["x"].reshape(len(train["x"]), -1).astype(np.float64), train["y"]
    first = rng.normal(0, 1 / np.sqrt(x.shape[1]), (x.shape[1], HIDDEN)).astype(np.float32)
    hidden = np.maximum((x / x.max()) @ first, 0)
    target, ridge = np.eye(10)[y], 1e-2 * np.eye(HIDDEN)
    second = np.linalg.solve(hidden.T @ hidden + ridge, hidden.T @ target).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["scores"]),
    ]
    shape = ["batch", *train["x"].shape[1:]]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array((first / x.max()).astype(np.float32), "first"),
            numpy_helper.from_array(second, "second"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, folder / "model.onnx")
    test = np.load(samples / "digits_test.npz")
    np.savez(folder / "data.npz", x=test["x"][:50].astype(np.float32), y=test["y"][:50])


def processor_seconds(arguments: list[str], checkout: Path, folder: Path) -> float | None:
    """Run Python and return the seconds that it and its processes took of all processors.

    None: it failed, which is told.
    """
    before = os.times()
    done = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **_SETTINGS, "PYTHONPATH": str(checkout)},
    )
    after = os.times()
    if done.returncode not in (0, 1, 3):  # a verdict is none of our business here
        problem = done.stderr.strip().splitlines()[-1:]
        print(f"{checkout.name}, {arguments[2:4]}: {done.returncode}, {problem}", file=sys.stderr)
        return None
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def require_code_of(checkout: Path) -> None:
    """End unless processes run the code of a checkout; an editable installation wins over it."""
    place = subprocess.run(
        [sys.executable, "-c", "import cimrobust; print(cimrobust.__file__)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=checkout.anchor,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    ).stdout.strip()
    if not Path(place).is_relative_to(checkout):
        sys.exit(
            f"code of {checkout} must be run, got {place}; use a Python without an editable"
            " installation of cimrobust"
        )


def commands(made: str) -> dict[str, list[str]]:
    """Return what is measured; the analysis writes the folder that the others read."""
    run = ["-m", "cimrobust"]
    policy = str(ROOT / "samples" / "policies" / "strict.toml")
    analyze = [*run, "analyze", "model.onnx", "--data", "data.npz", "--out", made]
    return {
        "analyze": [*analyze, "--trials", "50", "--effort", "quick"],
        "gate": [*run, "gate", made, "--policy", policy],
        "inspect": [*run, "inspect", "model.onnx"],
        "compare": [*run, "compare", made, made],
        "report": [*run, "report", made],
        "doctor": [*run, "doctor"],
        "schema": [*run, "schema", "certificate"],
        "--help": [*run, "--help"],
    }


def main() -> None:
    """Print a table after every turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, action="append", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="a command; analyze always")
    given = parser.parse_args()
    checkouts = [path.resolve() for path in given.checkout or [ROOT]]
    for checkout in checkouts:
        require_code_of(checkout)
    least: dict[tuple[str, int], float] = {}
    stages: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="cimrobust-") as name:
        folder = Path(name)
        write_network(folder)
        for turn in range(given.repeats + 1):
            for index, checkout in enumerate(checkouts):
                made = f"out-{index}-{turn}"
                measured = {"reference": REFERENCE, **commands(made)}
                for what, arguments in measured.items():
                    if given.only and what not in ("reference", "analyze", *given.only):
                        continue
                    seconds = processor_seconds(arguments, checkout, folder)
                    if seconds is None or turn == 0 or seconds >= least.get((what, index), np.inf):
                        continue
                    least[what, index] = seconds
                    if what == "analyze":
                        stages[index] = stage_seconds(folder / made, seconds)
            if turn:
                print(f"Least of {turn}, load {os.getloadavg()[0]:.0f}:", flush=True)
                print_table(least, stages, checkouts)


def stage_seconds(made: Path, seconds: float) -> dict[str, float]:
    """Return the stages of an analysis, the processor's seconds shared as the clock's were."""
    timings = json.loads((made / "certificate.json").read_text())["timings"]
    total = timings["total_seconds"]
    return {name: seconds * took / total for name, took in timings["stages"].items()}


def print_table(
    least: dict[tuple[str, int], float], stages: dict[int, dict[str, float]], checkouts: list[Path]
) -> None:
    """Print processor seconds, and how many times the reference they are."""
    whats = list(dict.fromkeys(what for what, _ in least))
    print("| command |" + "".join(f" {path.name}: s | x reference |" for path in checkouts))
    print("| --- |" + " ---: | ---: |" * len(checkouts))
    for what in whats:
        print(
            f"| {what} |" + "".join(_cells(least, what, index) for index in range(len(checkouts)))
        )
        if what == "analyze":
            for stage in dict.fromkeys(name for named in stages.values() for name in named):
                parts = (stages.get(index, {}).get(stage) for index in range(len(checkouts)))
                cells = ("" if part is None else f"{part:.2f}" for part in parts)
                print(f"| - {stage} |" + "".join(f" {cell} | |" for cell in cells))
    sys.stdout.flush()


def _cells(least: dict[tuple[str, int], float], what: str, index: int) -> str:
    """Return seconds and times the reference; empty where there are none."""
    if (what, index) not in least:
        return " | |"
    seconds = least[what, index]
    return f" {seconds:.2f} | {seconds / least['reference', index]:.2f} |"


if __name__ == "__main__":
    main()
