"""Certify real networks at several tolerances and write the tables of docs/lab-book/results.md.

    python tests/benchmarks/zoo_tables.py --zoo ../shared/zoo --out out/zoo

Every row is one `cimrobust analyze` run; finished runs are kept, so that the command can be
interrupted and run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

TOLERANCE_MODELS = ("mnist_cnn_bn", "mnist_mlp_256x2", "cifar_resnet4b")
TOLERANCES = (0.005, 0.01, 0.03)
DEVICE = "rram-write-verify-3pct"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo", type=Path, required=True, help="Folder of models with manifest.json"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/zoo"), help="Folder for the certificates"
    )
    parser.add_argument(
        "--tables", type=Path, default=Path("docs/results-tables.md"), help="File for the tables"
    )
    parser.add_argument("--effort", default="quick")
    options = parser.parse_args()
    manifest = json.loads((options.zoo / "manifest.json").read_text())
    models = {model["name"]: model for model in manifest["models"]}
    text = [_tolerance_table(options, models), _zoo_table(options, models)]
    options.tables.write_text("\n\n".join(text) + "\n")
    print(f"tables written to {options.tables}")


def _tolerance_table(options: argparse.Namespace, models: dict) -> str:
    rows = [
        (
            "| network | tolerance | clean | mean | 1st percentile (95 % bound) | worst found |"
            " seconds |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for name in TOLERANCE_MODELS:
        for tolerance in TOLERANCES:
            certificate, seconds = _certify(options, models[name], tolerance)
            rows.append(
                f"| `{name}` | {100 * tolerance:g} % | {_cells(certificate)} | {seconds:.0f} |"
            )
    return "\n".join(rows)


def _zoo_table(options: argparse.Namespace, models: dict) -> str:
    rows = [
        (
            "| network | metric | clean | mean | 1st percentile (95 % bound) | worst found | best"
            " member | seconds |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, model in models.items():
        certificate, seconds = _certify(options, model, 0.03)
        metric = certificate["metric"]
        members = sorted(
            certificate["worst_found"]["members"],
            key=lambda m: m["score"],
            reverse=not metric["higher_is_better"],
        )
        best = members[0]["name"]
        rows.append(
            f"| `{name}` | {metric['name']} | {_cells(certificate)} | {best} | {seconds:.0f} |"
        )
    return "\n".join(rows)


def _cells(certificate: dict) -> str:
    trials = certificate["monte_carlo"]
    kpp = trials["kpp"][0]
    bound = "none" if kpp["lower_bound"] is None else f"{kpp['lower_bound']:.4g}"
    return (
        f"{certificate['clean']['score']:.4g} | {trials['mean']:.4g} | {kpp['score']:.4g} ({bound})"
        f" | {certificate['worst_found']['score']:.4g}"
    )


def _certify(options: argparse.Namespace, model: dict, tolerance: float) -> tuple[dict, float]:
    out = options.out / f"{model['name']}-{tolerance:g}"
    finished = out / "certificate.json"
    if not finished.exists():
        command = [
            str(Path(sys.executable).with_name("cimrobust")),
            "analyze",
            str(options.zoo / model["file"]),
            *("--data", str(options.zoo / f"{model['name']}.toml")),
            *(
                "--device",
                DEVICE,
                "--tolerance",
                str(tolerance),
                "--effort",
                options.effort,
                "--out",
                str(out),
                "--json",
            ),
        ]
        print(" ".join(command[1:]), flush=True)
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (out.parent / f"{out.name}.seconds").write_text(f"{time.perf_counter() - started:.1f}")
    return json.loads(finished.read_text()), float((out.parent / f"{out.name}.seconds").read_text())


if __name__ == "__main__":
    main()
