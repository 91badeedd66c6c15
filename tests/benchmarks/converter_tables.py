"""Certify real networks on accelerators with converters and write the tables of
docs/lab-book/results.md.

    python tests/benchmarks/converter_tables.py --zoo ../shared/zoo --out out/converters

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

DEVICES = ("isaac-like-8bit", "sonos-like")
_COLUMNS = ("float weights", "quantised weights", "converters", "read noise", "programming")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--zoo", type=Path, required=True, help="Folder of models with manifest.json"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/converters"), help="Folder for the certificates"
    )
    parser.add_argument(
        "--tables", type=Path, default=Path("docs/converter-tables.md"), help="File for the tables"
    )
    parser.add_argument("--limit", type=int, default=200, help="Samples")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="Names of networks")
    options = parser.parse_args()
    models = {
        model["name"]: model
        for model in json.loads((options.zoo / "manifest.json").read_text())["models"]
    }
    chosen = {
        name: model for name, model in models.items() if not options.only or name in options.only
    }
    text = [f"#### {device}\n\n{_table(options, chosen, device)}" for device in DEVICES]
    options.tables.write_text("\n\n".join(text) + "\n")
    print(f"tables written to {options.tables}")


def _table(options: argparse.Namespace, models: dict, device: str) -> str:
    rows = [
        (
            "| network | metric | float | quantised | converters | read noise | programmed, mean"
            " (lowest) | worst found | arrays | conversions a vector | seconds |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, model in models.items():
        certificate, seconds = _certify(options, model, device)
        effects = {row["effect"]: row for row in certificate["diagnostics"]["effects"]}
        scores = [f"{effects[key]['mean']:.4g}" if key in effects else "-" for key in _COLUMNS[:4]]
        trials, arrays = certificate["monte_carlo"], certificate["converters"]["arrays"]
        worst_drawn = trials["min"] if certificate["metric"]["higher_is_better"] else trials["max"]
        rows.append(
            f"| `{name}` | {certificate['metric']['name']} | {' | '.join(scores)} |"
            f" {trials['mean']:.4g} ({worst_drawn:.4g}) | {certificate['worst_found']['score']:.4g}"
            f" | {certificate['mapping']['total_tiles']} |"
            f" {sum(row['conversions_per_vector'] for row in arrays)} | {seconds:.0f} |"
        )
    return "\n".join(rows)


def _certify(options: argparse.Namespace, model: dict, device: str) -> tuple[dict, float]:
    out = options.out / f"{model['name']}-{device}"
    finished = out / "certificate.json"
    if not finished.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [
            str(Path(sys.executable).with_name("cimrobust")),
            "analyze",
            str(options.zoo / model["file"]),
            *(
                "--data",
                str(options.zoo / f"{model['name']}.toml"),
                "--device",
                device,
                "--effort",
                "quick",
            ),
            *(
                "--limit",
                str(options.limit),
                "--trials",
                str(options.trials),
                "--workers",
                str(options.workers),
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
