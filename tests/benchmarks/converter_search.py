"""Worst chips that the search finds through converters, with what every member found.

    python tests/benchmarks/converter_search.py samples/digits_cnn.onnx \
        --data samples/digits_cnn.toml

Scores are those of the crossbar kernel on all samples. Rows are markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from cimrobust.data.calibration import load_samples
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine.open import open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import EFFORTS, Run
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import SearchResult

DEVICES = ("isaac-like-8bit", "mnsim-like", "neurosim-like", "prime-like", "sonos-like")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    print("| network | profile | tolerance | effort | quantised | worst found | by | passes |")
    print("|---|---|---|---|---|---|---|---|")
    for device in options.devices:
        for tolerance in options.tolerances:
            for effort in options.efforts:
                print(_row(options, device, tolerance, effort), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="Description of the data")
    parser.add_argument("--devices", nargs="+", default=DEVICES, help="Profiles")
    parser.add_argument("--tolerances", nargs="+", type=float, default=(0.01, 0.03))
    parser.add_argument("--efforts", nargs="+", default=("quick", "standard"), choices=EFFORTS)
    parser.add_argument("--limit", type=int, help="Use the first N samples only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--members", action="store_true", help="List on stderr what every member found"
    )
    return parser.parse_args()


def _row(options: argparse.Namespace, device: str, tolerance: float, effort: str) -> str:
    network = load_network(options.model)
    scan = scan_layers(network)
    placement = place(scan, with_tolerance(load_profile(device), tolerance))
    samples, calibration = load_samples(
        str(options.data),
        None,
        inputs=network.inputs,
        limit=options.limit,
        needs_calibration=True,
    )
    runtime = open_network(network, scan, placement, samples, calibration=calibration)
    began = time.process_time()
    found = search(Subject(runtime, placement), Run(effort=effort, seed=options.seed))
    if options.members:
        _list_members(found, f"{device} {tolerance:g} {effort}", time.process_time() - began)
    return (
        f"| `{options.model.stem}` | `{device}` | {100 * tolerance:g} % | {effort} |"
        f" {runtime.nominal.value:.4g} | {found.score.value:.4g} | {found.member} |"
        f" {found.passes} |"
    )


def _list_members(found: SearchResult, what: str, seconds: float) -> None:
    warned = ", ".join(warned.code for warned in found.warnings)
    print(f"{what}: {seconds:.1f} processor seconds; {warned}", file=sys.stderr)
    for member in found.members:
        score = "-" if member.score is None else f"{member.score.value:.4g}"
        print(f"  {member.name} {member.passes} {score} {member.note}", file=sys.stderr)


if __name__ == "__main__":
    main()
