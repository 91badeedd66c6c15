"""Certificates made on workers of which one is killed, and by a coordinator that is killed.

    python tests/benchmarks/cluster_certificates.py --out reports/cluster_certificates.md

Each row is a whole analysis of a sample network. Its folder must be that of one thread, byte for
byte, results in JSON but for their times. `worker`: one process of the cluster gets SIGKILL while
chips are scored. `coordinator`: the command itself does, and the same one goes on with --resume.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kill_and_resume import SAMPLES, Case, differences, ran

_NETWORK = "breast_cancer_mlp"
_CLUSTERS = ("processes:1", "processes:2", "processes:4", "local:1", "local:2", "local:4")


def main() -> None:
    """Run everything, write the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--clusters", default=",".join(_CLUSTERS))
    asked.add_argument("--trials", type=int, default=300)
    asked.add_argument("--out", type=Path, help="file of the table")
    given = asked.parse_args()
    rows = ["| workers | killed | same |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        if ran(_case(given.trials), whole).code != 0:
            raise SystemExit("the analysis must run in one process")
        for index, cluster in enumerate(given.clusters.split(",")):
            for what, run in (("a worker", _worker_killed), ("the coordinator", _resumed)):
                out = Path(folder) / f"killed-{2 * index + (what != 'a worker')}"
                out.mkdir()
                killed = run(_case(given.trials, "--cluster", cluster), out)
                problems = differences(whole, out)
                same = "yes" if not problems else "NO: " + "; ".join(problems)
                rows.append(f"| `{cluster}` | {what if killed else 'nobody'} | {same} |")
                print(rows[-1], flush=True)
    if given.out is not None:
        given.out.write_text("\n".join(rows) + "\n", encoding="utf-8")
    sys.exit(any("NO" in row or "nobody" in row for row in rows))


def _case(trials: int, *more: str) -> Case:
    sample = str(SAMPLES / _NETWORK)
    arguments = ("analyze", f"{sample}.onnx", "--data", f"{sample}.toml", "--limit", "20")
    chosen = ("--trials", str(trials), "--effort", "quick", "--diagnostics", "none")
    return Case("analyze", (*arguments, *chosen, "--out", "OUT", "--resume", *more))


def _worker_killed(case: Case, out: Path) -> bool:
    """Run a command and kill one of its workers; return whether there was one."""
    arguments = [argument.replace("OUT", str(out)) for argument in case.arguments]
    with out.with_name(f"{out.name}.printed").open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cimrobust", *arguments],
            stdout=stream,
            stderr=subprocess.DEVNULL,
        )
        killed = False
        while process.poll() is None:
            time.sleep(0.01)
            if not killed and _has_chips(out) and (victims := _workers(process.pid)):
                os.kill(victims[0], signal.SIGKILL)
                killed = True
    return killed


def _resumed(case: Case, out: Path) -> bool:
    """Kill a command once it has kept a chip, and go on; return whether it was killed."""
    until: Callable[[Path], bool] = _has_chips
    killed = ran(case, out, until=until).code < 0
    return ran(case, out).code == 0 and killed


def _has_chips(out: Path) -> bool:
    """Return whether the checkpoint of drawn chips has more than its head."""
    return any(path.stat().st_size > 2000 for path in out.glob(".resume*/trials*"))


def _workers(pid: int) -> list[int]:
    """Return the processes of a cluster that a process has started, or those of its nanny."""
    found: list[int] = []
    for child in _children(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        inner = _workers(child)
        found += inner or ([child] if b"spawn_main" in command else [])
    return found


def _children(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


if __name__ == "__main__":
    main()
