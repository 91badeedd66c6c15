"""The worst chip that each effort finds, and the passes it took: how much a lower one overstates.

    python tests/benchmarks/bench_efforts.py --data ../shared/zoo/mnist_mlp_256x2.toml --limit 500 \
        --tolerances 0.02 --models out/mlp/model.onnx

Models that share a data description go into one call. No chips are drawn; scores are those of all
samples in onnxruntime, replayed from the model file. Rows are markdown.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from member_tables import Row, open_row

from cimrobust.engine.subject import Subject
from cimrobust.run import EFFORTS, Run
from cimrobust.search.ensemble import search
from cimrobust.search.search_results import SearchResult


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    print(
        f"| network | tolerance | {' | '.join(options.efforts)} | first above last | by |\n"
        f"|---|---|{'---|' * (len(options.efforts) + 2)}"
    )
    for model in options.models:
        for tolerance in options.tolerances:
            found = [_search(options, model, tolerance, effort) for effort in options.efforts]
            print(_line(model, tolerance, found), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="Description of the data")
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="ONNX files")
    parser.add_argument("--tolerances", nargs="+", type=float, default=(0.01,))
    parser.add_argument("--efforts", nargs="+", default=EFFORTS, choices=EFFORTS)
    parser.add_argument("--limit", type=int, help="Use the first N samples only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--members", action="store_true", help="List on stderr what every member found"
    )
    return parser.parse_args()


def _search(
    options: argparse.Namespace, model: Path, tolerance: float, effort: str
) -> SearchResult:
    row = Row(model.stem, str(model), str(options.data), tolerance, effort, "cpu", options.limit, 0)
    runtime, placement = open_row(row)
    began = time.process_time()
    found = search(Subject(runtime, placement), Run(effort=effort, seed=options.seed))
    if options.members:
        seconds = time.process_time() - began
        print(f"{model} {tolerance:g} {effort}: {seconds:.1f} processor seconds", file=sys.stderr)
        for member in found.members:
            score = "-" if member.score is None else f"{member.score.value:.4g}"
            print(f"  {member.name} {member.passes} {score} {member.note}", file=sys.stderr)
    return found


def _line(model: Path, tolerance: float, found: Sequence[SearchResult]) -> str:
    cells = [f"{each.score.value:.4g} ({each.passes})" for each in found]
    gap = found[0].score.value - found[-1].score.value
    name = "/".join(model.with_suffix("").parts[-2:])
    by = ", ".join(each.member for each in found)
    return f"| `{name}` | {100 * tolerance:g} % | {' | '.join(cells)} | {gap:.4g} | {by} |"


if __name__ == "__main__":
    main()
