"""What each member of the search finds on real networks, and the papers' method alone at ten times
the passes: the tables of docs/lab-book/search.md.

    python tests/benchmarks/member_tables.py --zoo ../shared/zoo --out out/members --jobs 8 --device-type cuda

One row is a network at a tolerance; a finished row is a JSON file in --out and is not computed
again, so that the command can be interrupted.
No chips are drawn. Every accuracy is that of the member's best pattern on all samples, run in
onnxruntime; the winner is replayed from its
model file. The markdown goes to stdout, what is going on to stderr.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from cimrobust.data.load_dataset import load_data
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile_changes import with_tolerance
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search.ensemble import search, search_by_papers
from cimrobust.search.search_results import SearchResult

DEVICE = "rram-write-verify-3pct"
SAMPLES = ("digits_cnn", "breast_cancer_mlp", "digits_resnet")
TOLERANCES = (0.005, 0.01, 0.03)
# The papers' method gets so many times the passes that the ensemble made.
HANDICAP = 10
# Members that are no searches of their own.
_SHOWN = (
    "random_corners",
    "corner_search",
    "smooth_accuracy",
    "margin_hinge",
    "cross_entropy",
    "dlr",
    "regression_error",
    "carlini_wagner",
    "class_collapse",
    "pair_collapse",
    "cross_fidelity",
    "repeat_after_masking",
    "continuation",
    "fast_run",
)


@dataclass(frozen=True)
class Row:
    """One row to compute."""

    name: str
    model: str
    data: str
    tolerance: float
    effort: str
    device_type: str
    limit: int | None
    handicap: int

    @property
    def file(self) -> str:
        part = "" if self.limit is None else f"-{self.limit}"
        return f"{self.name}-{self.tolerance:g}-{self.effort}{part}{'' if self.handicap else '-alone'}.json"  # noqa: E501


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = list(_rows(options))
    missing = [row for row in rows if not (options.out / row.file).exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context, initializer=_one_thread) as pool:
        running = {pool.submit(compute, row): row for row in missing}
        for future in as_completed(running):
            row = running[future]
            _write(options.out / row.file, future.result())
            print(f"{row.file} done", file=sys.stderr, flush=True)
    print(tables([json.loads((options.out / row.file).read_text()) for row in rows]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo", type=Path, required=True, help="Folder of models with manifest.json"
    )
    parser.add_argument(
        "--samples", type=Path, default=Path("samples"), help="Folder of the shipped samples"
    )
    parser.add_argument("--out", type=Path, default=Path("out/members"), help="Folder for the rows")
    parser.add_argument(
        "--jobs", type=int, default=1, help="Rows at the same time, one process and one thread each"
    )
    parser.add_argument("--models", nargs="*", help="Only these")
    parser.add_argument("--tolerances", nargs="*", type=float, default=TOLERANCES)
    parser.add_argument("--effort", default="standard", choices=("quick", "standard", "thorough"))
    parser.add_argument("--device-type", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--handicap",
        type=int,
        default=HANDICAP,
        help="Passes of the papers' method, in those of the ensemble; 0 leaves it out",
    )
    parser.add_argument("--limit", type=int, help="Use the first N samples only")
    return parser.parse_args()


def _rows(options: argparse.Namespace) -> Iterator[Row]:
    manifest = json.loads((options.zoo / "manifest.json").read_text())
    files = {
        name: (options.samples / f"{name}.onnx", options.samples / f"{name}.toml")
        for name in SAMPLES
    }
    files |= {
        model["name"]: (options.zoo / model["file"], options.zoo / f"{model['name']}.toml")
        for model in manifest["models"]
    }
    unknown = sorted(set(options.models or ()) - set(files))
    if unknown:
        raise SystemExit(f"models must be of {', '.join(files)}, got {', '.join(unknown)}")
    for name in options.models or files:
        for tolerance in options.tolerances:
            yield Row(
                name,
                str(files[name][0]),
                str(files[name][1]),
                tolerance,
                options.effort,
                options.device_type,
                options.limit,
                options.handicap,
            )


def _one_thread() -> None:
    torch.set_num_threads(1)


def compute(row: Row) -> dict:
    """Search one network at one tolerance, and again with the papers' method alone."""
    runtime, placement = open_row(row)
    subject, settings = (
        Subject(runtime, placement),
        Run(effort=row.effort, device_type=row.device_type),
    )
    found, seconds = _timed(search, subject, settings)
    made = {**asdict(row), "clean": runtime.quantised.value, "ensemble": _summary(found, seconds)}
    made["higher_is_better"] = runtime.task.higher_is_better
    made["samples"] = runtime.dataset.num_samples
    made["members"] = {
        member.name: {
            "score": member.score.value,
            "passes": member.passes,
            "evaluations": member.evaluations,
            "seconds": member.seconds,
        }
        for member in found.members
        if member.score is not None
    }
    made["papers"] = None
    # Where nothing is right, nothing can be worse.
    is_open = not runtime.task.is_regression and found.score.value > 0
    if found.has_twin and is_open and row.handicap:
        papers, seconds = _timed(
            search_by_papers, subject, settings, passes=row.handicap * found.passes
        )
        made["papers"] = _summary(papers, seconds)
    return made


def open_row(row: Row) -> tuple[Runtime, Placement]:
    network = load_network(Path(row.model))
    scan = scan_layers(network)
    placement = place(scan, with_tolerance(load_profile(DEVICE), row.tolerance))
    return (
        open_network(
            network, scan, placement, load_data(row.data, inputs=network.inputs, limit=row.limit)
        ),
        placement,
    )


def _timed(run, *arguments, **options) -> tuple[SearchResult, float]:
    started = time.perf_counter()
    result = run(*arguments, **options)
    return result, time.perf_counter() - started


def _summary(found: SearchResult, seconds: float) -> dict:
    return {
        "score": found.score.value,
        "member": found.member,
        "passes": found.passes,
        "evaluations": found.evaluations,
        "crafting_samples": found.crafting_samples,
        "seconds": seconds,
        "near": None if found.curve is None else asdict(found.curve.near),
        "warnings": [warned.code for warned in found.warnings],
    }


def _write(path: Path, made: dict) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(made, indent=1))
    part.replace(path)


def tables(rows: list[dict]) -> str:
    """Return the markdown of all tables."""
    return "\n\n".join([_score_table(rows), _ensemble_table(rows), _cost_table(rows)])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _score_table(rows: list[dict]) -> str:
    names = [name for name in _SHOWN if any(name in row["members"] for row in rows)]
    lines = [
        "| network | tolerance | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for row in rows:
        best = row["ensemble"]["score"]
        cells = []
        for name in names:
            score = row["members"].get(name, {}).get("score")
            cells.append(
                f"**{_shown(score)}**" if score is not None and score == best else _shown(score)
            )
        lines.append(f"| `{row['name']}` | {100 * row['tolerance']:g} % | {' | '.join(cells)} |")
    return (
        "Score of each member's best pattern on all samples; empty: did not apply, or nothing was"
        " left to search for.\n\n" + "\n".join(lines)
    )


def _ensemble_table(rows: list[dict]) -> str:
    lines = [
        (
            "| network | tolerance | quantised | ensemble | passes | seconds | within 110 % after |"
            " papers alone | passes | seconds | ensemble at least as bad |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, papers, near = row["ensemble"], row["papers"], row["ensemble"]["near"]
        after = "" if near is None else f"{near['passes']} passes, {near['seconds']:.1f} s"
        theirs = ["", "", "", ""]
        if papers is not None:
            holds = (
                ours["score"] <= papers["score"]
                if row["higher_is_better"]
                else ours["score"] >= papers["score"]
            )
            theirs = [
                _shown(papers["score"]),
                str(papers["passes"]),
                f"{papers['seconds']:.0f}",
                "yes" if holds else "**no**",
            ]
        lines.append(
            f"| `{row['name']}` | {100 * row['tolerance']:g} % | {_shown(row['clean'])} |"
            f" {_shown(ours['score'])} | {ours['passes']} | {ours['seconds']:.0f} | {after} |"
            f" {' | '.join(theirs)} |"
        )
    return (
        f"The ensemble, and the papers' method alone at {HANDICAP} times its passes.\n\n"
        + "\n".join(lines)
    )


def _cost_table(rows: list[dict]) -> str:
    """Return what members spend, and how often each is the best or within a tenth of it."""
    lines = [
        (
            "| member | rows | best | within 110 % of the best | passes a row | evaluations a row |"
            " seconds a row |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for name in _SHOWN:
        entries = [(row, row["members"][name]) for row in rows if name in row["members"]]
        if not entries:
            continue
        count = len(entries)
        best = sum(entry["score"] == row["ensemble"]["score"] for row, entry in entries)
        near = sum(_is_near(row, entry["score"]) for row, entry in entries)
        means = [
            sum(entry[key] for _, entry in entries) / count
            for key in ("passes", "evaluations", "seconds")
        ]
        lines.append(
            f"| {name.replace('_', ' ')} | {count} | {best} | {near} | {means[0]:.0f} |"
            f" {means[1]:.0f} | {means[2]:.1f} |"
        )
    return "What members cost and how often they win.\n\n" + "\n".join(lines)


def _is_near(row: dict, score: float) -> bool:
    best = row["ensemble"]["score"]
    return score <= 1.1 * best if row["higher_is_better"] else 1.1 * score >= best


if __name__ == "__main__":
    main()
