"""How tight the certified bound is, over all models of the zoo and all samples.

    python tests/benchmarks/bench_certify.py [--models NAME ...] [--inputs N] [--results FILE] [--table]

For each model: the tolerance at which half of the inputs are certified (by intervals, by linear
bounds, with branching; 0 where not even at a millionth of the profile's), the one at which an
attack on each input alone breaks
half of them, the one at which the joint search at effort quick pulls the score of one chip under
half of that without deviation, on three times as many samples, and seconds. Inputs are the first
ones of the model's data that the
quantised network without deviation decides right. Tolerances are in percent of the conductance
range, per input on a grid of 16 steps an octave. Seconds are of the process
(one thread) for one call of `certify` at the size of box at which half are certified, extrapolated
to 1000 inputs.

Every number is kept in the results file as soon as it is known, and not computed again; delete the
file to start anew.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cimrobust.certify.bound_summary import EFFORTS
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.data.load_dataset import load_data
from cimrobust.device.intervals import tolerance_fraction
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_threads import one_torch_thread
from cimrobust.mapping.placement import GivenLimits, Placement
from cimrobust.pipeline.inspection import inspect_model
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from tests.unit.certify.attack import PerInputAttack

ROOT = Path(__file__).resolve().parents[2]
ZOO = Path(os.environ.get("CIMROBUST_ZOO", ROOT.parent / "shared" / "zoo"))
RESULTS = ROOT / "build" / "bench_certify.json"
#: Inputs, multiplications that narrowing one layer may cost, and whether the attack is short: one
#: runner-up, few passes, no descent.
MODELS: dict[str, tuple[int, float, bool]] = {
    "breast_cancer_mlp": (100, math.inf, False),
    "mnist_mlp_256x2": (24, math.inf, False),
    "digits_cnn": (16, math.inf, False),
    "mnist_cntk_opset8": (8, math.inf, False),
    "acasxu_1_1": (24, math.inf, False),
    "cifar_vit_ibp": (6, 3e8, True),
    "digits_resnet": (6, 3e8, True),
    "cifar_cnn_nhwc": (4, 3e8, True),
    "mnist_cnn_bn": (4, 3e8, True),
    "cifar_resnet4b": (4, 3e8, True),
    "fashion_cnn": (4, 3e8, True),
    "cifar_resnet4b_qdq": (4, 0.0, True),
    "cifar_resnet8_qlinear": (4, 0.0, True),
    "cifar_tinymobilenet": (4, 3e8, True),
}
#: Boxes that inputs are certified on at least, and the reach of the attack beyond.
SMALLEST = -20


def opened(name: str, limit: int) -> tuple[Runtime, Placement]:
    """Open a sample or a model of the zoo."""
    own = ROOT / "samples" / f"{name}.onnx"
    model = (
        own
        if own.exists()
        else next(
            (ZOO / "models").glob(f"**/{name}.onnx"),
            next((ZOO / "models" / name).glob("*.onnx"), None),
        )
    )
    if model is None:
        raise FileNotFoundError(f"there is no model {name} among the samples and in {ZOO}")
    description = model.with_suffix(".toml") if own.exists() else ZOO / f"{name}.toml"
    return opened_file(model, description, limit)


def opened_file(model: Path, description: Path, limit: int) -> tuple[Runtime, Placement]:
    """Open a model with its data."""
    inspection = inspect_model(model, device="rram-write-verify-3pct", tolerance=None)
    dataset = load_data(str(description), inputs=inspection.network.inputs, limit=limit)
    return (
        open_network(inspection.network, inspection.scan, inspection.placement, dataset),
        inspection.placement,
    )


@dataclass(frozen=True)
class Measured:
    """A model that is being measured.

    Attributes:
        runtime: The network on its chosen inputs and others.
        placement: Its stored weights.
        network: Ready to be bounded.
        chosen: The inputs.
        effort: Multiplications that narrowing one layer may cost.
        is_short: The attack is short.
        is_fast: Bounds alone are measured.
        row: Sizes of boxes found, relative to the profile's, by column; filled and kept.
        keep: Called after every column.
    """

    runtime: Runtime
    placement: Placement
    network: BoundedNetwork
    chosen: np.ndarray
    effort: float
    is_short: bool
    is_fast: bool
    row: dict[str, Any]
    keep: Callable[[], None]

    def column(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a column, computed unless it is known."""
        if name not in self.row:
            found = compute()
            self.row[name] = found.tolist() if isinstance(found, np.ndarray) else found
            self.keep()
        found = self.row[name]
        return np.array(found) if isinstance(found, list) else found

    def measure(self) -> None:
        """Fill all columns."""
        interval = self.column("interval", lambda: self._largest(method="interval", top=4))
        if self.is_fast:
            self.column("linear", lambda: self._largest(branching=None, top=4, known=interval))
            return
        if self.is_short:
            attack = PerInputAttack(self.runtime, self.placement, targets=1, passes=4)
        else:
            attack = PerInputAttack(self.runtime, self.placement, descents=10, network=self.network)

        def broken() -> np.ndarray:
            # First from afar, then around what was found.
            coarse = [
                attack.break_scale(int(sample), max(size, 2.0**-14), steps=6, reach=2.0**12)
                for sample, size in zip(self.chosen, interval, strict=True)
            ]
            return np.array(
                [
                    attack.break_scale(int(sample), size / 4.0, steps=6, reach=4.0)
                    for sample, size in zip(self.chosen, coarse, strict=True)
                ]
            )

        attacked = self.column("attack", broken)
        # Twice as far as the attack needed: a bound that reached beyond it would be seen.
        top = math.ceil(math.log2(2.0 * attacked.max()))
        linear = self.column(
            "linear", lambda: self._largest(branching=None, top=top, known=interval)
        )
        full = self.column("full", lambda: self._largest(top=top, known=linear))
        assert (attacked > full).all(), "no attack may break a certified input"
        half = float(np.median(full)) or float(np.max(full)) or 2.0**-8
        for effort, (narrowing, branching) in EFFORTS.items():
            if self.is_short and effort != "quick":
                continue
            self.column(
                f"seconds {effort}",
                lambda narrowing=narrowing, branching=branching: self._seconds(
                    half, narrowing, branching
                ),
            )
        self.column("joint", lambda: self._joint(float(np.median(attacked))))

    def _largest(self, *, top: int, **options: Any) -> np.ndarray:
        return largest_certified_tolerance(
            self.network,
            samples=self.chosen,
            octaves=(SMALLEST, max(top, SMALLEST + 1)),
            effort=self.effort,
            **options,
        )

    def _seconds(self, scale: float, narrowing: float, branching: Any) -> float:
        some = self.chosen[:8]
        started = time.process_time()
        certify(self.network, scale=scale, samples=some, effort=narrowing, branching=branching)
        return 1000.0 * (time.process_time() - started) / len(some)

    def _joint(self, first: float) -> float:
        """Return the smallest box found in which the joint search halves the score, from `first`
        upwards in steps of a quarter octave.
        """
        enough = 0.5 * self.runtime.quantised.value
        for step in range(24):
            scale = first * 2.0 ** (step / 4.0)
            tensors = {
                name: replace(
                    tensor,
                    limits=GivenLimits(
                        np.float32(scale) * tensor.lo, np.float32(scale) * tensor.hi
                    ),
                )
                for name, tensor in self.placement.tensors.items()
            }
            if (
                search(
                    Subject(self.runtime, replace(self.placement, tensors=tensors)),
                    Run(effort="quick"),
                ).score.value
                < enough
            ):
                return scale
        return math.inf


def measure(
    name: str,
    runtime: Runtime,
    placement: Placement,
    count: int,
    effort: float,
    is_short: bool,
    is_fast: bool,
    results: dict[str, Any],
    keep: Callable[[], None],
) -> None:
    """Fill the row of a model."""
    row = results.setdefault(name, {})
    if runtime.task.is_regression:
        row["refused"] = "a regression: errors are bounded, no input is certified"
        return
    network = open_bounds(runtime, placement)
    if not isinstance(network, BoundedNetwork):
        row["refused"] = str(network)
        return
    output = runtime.plain.run(
        placement.nominal(), runtime.dataset.inputs, runtime.dataset.constants
    )
    chosen = np.flatnonzero(runtime.task.right(output).reshape(-1))[:count]
    row["inputs"] = len(chosen)
    row["percent"] = 100.0 * tolerance_fraction(placement.profile)
    Measured(runtime, placement, network, chosen, effort, is_short, is_fast, row, keep).measure()


def lines(results: dict[str, Any]) -> list[str]:
    """Return the table."""
    found = [
        (
            "| model | inputs | interval % | linear % | branching % | attack % | joint % | attack /"
            " certified | joint / certified | s per 1000, quick | standard | thorough |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        if "refused" in row:
            found.append(f"| {name} | {row['refused']} |" + " |" * 10)
            continue
        sizes = {
            key: row["percent"] * float(np.median(row[key]))
            for key in ("interval", "linear", "full", "attack", "joint")
            if key in row
        }
        cells = [
            f"{sizes[key]:.3g}" if key in sizes else ""
            for key in ("interval", "linear", "full", "attack", "joint")
        ]
        ratios = [
            f"{sizes[key] / sizes['full']:.2f}" if sizes.get("full") and key in sizes else ""
            for key in ("attack", "joint")
        ]
        seconds = [
            f"{row[key]:.0f}" if (key := f"seconds {effort}") in row else "" for effort in EFFORTS
        ]
        found.append(
            f"| {name} | {row['inputs']} | " + " | ".join([*cells, *ratios, *seconds]) + " |"
        )
    return found


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="*", default=[*MODELS, "rul_cnn"])
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--fast",
        action="store_true",
        help="intervals, and linear bounds without narrowing and branching; no attack, no search",
    )
    parser.add_argument("--table", action="store_true", help="print what is known, measure nothing")
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}

    def keep() -> None:
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(results, indent=1))

    with one_torch_thread():
        for name in () if arguments.table else arguments.models:
            count, effort, is_short = MODELS.get(name, (4, 3e8, True))
            runtime, placement = opened(name, 3 * (arguments.inputs or count))
            measure(
                name,
                runtime,
                placement,
                arguments.inputs or count,
                0.0 if arguments.fast else effort,
                is_short,
                arguments.fast,
                results,
                keep,
            )
            keep()
    print("\n".join(lines(results)))


if __name__ == "__main__":
    main()
