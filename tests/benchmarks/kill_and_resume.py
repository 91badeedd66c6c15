"""Runs that are killed at random moments, resumed, and compared with one that never stopped.

    python tests/benchmarks/kill_and_resume.py --moments 40 --out reports/kill_and_resume.md
    python tests/benchmarks/kill_and_resume.py --network breast_cancer_mlp --limit 10 --trials 30

Each row of the table is one kill -9. Files must be the same byte for byte, results in JSON but for
their times. Work is measured in processor seconds of the process and its threads, since other
programs that run meanwhile make wall-clock time longer. *Left* is what the whole run takes, less
what the killed one had taken, plus what every run takes before its first part beside drawn chips is
kept; *factor* is what the resumed run took over that.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

SAMPLES = Path(__file__).parents[2] / "samples"
#: Results, which hold times, and files that are compared byte for byte.
_RESULTS = ("certificate.json", "sweep.json", "retrain.json")
_TIMES = frozenset({"timings", "seconds", "training_seconds"})
#: Log of a re-training, which holds times too; its digest in the result differs with them.
_LOG = "training.parquet"
#: Files whose content repeats that of a result, times and all.
_DERIVED = (".html", "manifest.json", "manifest.sha256")


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes:
        name: What the table calls it.
        arguments: Of `cimrobust`, without --out.
    """

    name: str
    arguments: Sequence[str]


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: Its exit status; negative: the signal that ended it.
        work: Processor seconds.
        wall: Wall-clock seconds.
    """

    code: int
    work: float
    wall: float


@dataclass(frozen=True)
class Killed:
    """One kill and what came of it.

    Attributes:
        moment: Share of the whole run after which the process was killed.
        parts: Parts that were kept by then.
        work: Processor seconds until then.
        resumed: Processor seconds of the resumed run.
        left: Processor seconds that were left.
        problems: What differs; nothing where all is the same.
    """

    moment: float
    parts: int
    work: float
    resumed: float
    left: float
    problems: Sequence[str]


def cases(network: str, limit: int, trials: int) -> tuple[Case, ...]:
    """Return the commands, on a sample network and so many samples and drawn chips."""
    cnn = _of_sample(network)
    mlp = _of_sample("breast_cancer_mlp")
    few = ("--limit", str(limit), "--trials", str(trials), "--workers", "2", "--effort")
    return (
        Case("analyze quick", ("analyze", *cnn, *few, "quick", "--diagnostics", "all")),
        Case("analyze standard", ("analyze", *cnn, *few, "standard")),
        Case(
            "analyze rare",
            ("analyze", *mlp, *few, "quick", "--rare-below", "0.9", "--rare-budget", "2000"),
        ),
        Case("sweep", ("sweep", *cnn, *few, "quick", "--tolerances", "0.005,0.02")),
        Case(
            "retrain",
            (
                *("retrain", *mlp, *few, "quick", "--epochs", "3", "--search-passes", "3"),
                *("--draws", "2", "--diagnostics", "none"),
            ),
        ),
        Case("analyze cluster", ("analyze", *mlp, *few, "quick", "--cluster", "processes:2")),
        Case("analyze shard", ("analyze", *mlp, *few, "quick", "--shard", "1/2")),
    )


def main() -> None:
    """Kill, resume, compare, write the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--moments", type=int, default=40, help="kills in all")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument(
        "--network",
        default="digits_cnn",
        help="sample network of most cases",
    )
    asked.add_argument("--limit", type=int, default=20, help="samples")
    asked.add_argument("--trials", type=int, default=60, help="drawn chips")
    asked.add_argument("--only", default="", help="cases whose name contains this")
    asked.add_argument("--out", type=Path, help="file of the table")
    given = asked.parse_args()
    chosen = [
        case for case in cases(given.network, given.limit, given.trials) if given.only in case.name
    ]
    rows: list[str] = []
    failed = False
    for index, case in enumerate(chosen):
        count = given.moments * (index + 1) // len(chosen) - given.moments * index // len(chosen)
        with tempfile.TemporaryDirectory() as folder:
            # A stream of its own, so that few kills a command come at different moments.
            draws = random.Random(f"{given.seed} {case.name}")
            for kill in killed_and_resumed(case, Path(folder), count, draws):
                failed |= bool(kill.problems)
                rows.append(_row(case, kill))
                print(rows[-1], flush=True)
    table = "\n".join([*_HEAD, *rows]) + "\n"
    if given.out is not None:
        given.out.write_text(table, encoding="utf-8")
    sys.exit(1 if failed else 0)


def killed_and_resumed(
    case: Case, folder: Path, count: int, draws: random.Random
) -> Iterator[Killed]:
    """Yield what came of some kills of one command, at moments drawn evenly over its course."""
    whole = ran(case, folder / "whole")
    if whole.code != 0:
        raise SystemExit(f"{case.name} must run, got exit code {whole.code}")
    start = ran(case, folder / "started", until=has_begun).work
    for index in range(count):
        moment, out = draws.random(), folder / f"killed-{index}"
        end = time.perf_counter() + moment * whole.wall
        stopped = ran(case, out, until=lambda _, end=end: time.perf_counter() > end)
        problems = [] if stopped.code == 0 else unfinished(out)
        parts = len(list(out.glob(".resume*/*")))
        resumed = ran(Case(case.name, (*case.arguments, "--resume")), out)
        problems += [f"exit code {resumed.code}"] if resumed.code else []
        problems += differences(folder / "whole", out)
        left = max(whole.work - stopped.work, 0.0) + start
        yield Killed(moment, parts, stopped.work, resumed.work, left, problems)
        shutil.rmtree(out)


def ran(case: Case, out: Path, *, until: Callable[[Path], bool] | None = None) -> Ended:
    """Run a command; kill it as soon as something holds of its folder, if it still runs then."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "cimrobust", *case.arguments, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if until is not None:
        while not until(out) and not _has_ended(process.pid):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    return Ended(process.returncode, used.ru_utime + used.ru_stime, wall)


def has_begun(out: Path) -> bool:
    """Return whether a run has kept anything beside drawn chips."""
    return any(not path.name.startswith("trials") for path in out.glob(".resume*/[!.]*"))


def unfinished(out: Path) -> list[str]:
    """Return files under final names that are not whole, after a kill."""
    problems = []
    for path in out.glob("*.json"):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            problems.append(f"{path.name} is cut off")
    return problems


def differences(whole: Path, resumed: Path) -> list[str]:
    """Return the files of a resumed run that are not those of one that never stopped."""
    names = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file()}
    others = {str(path.relative_to(resumed)) for path in resumed.rglob("*") if path.is_file()}
    problems = [f"{name} is in one folder alone" for name in sorted(names ^ others)]
    for name in sorted(names & others):
        if name.endswith(_DERIVED):
            continue
        if _compared(whole / name) != _compared(resumed / name):
            problems.append(f"{name} differs")
    return problems


def _compared(path: Path) -> Any:
    """Return what two runs must have in common of a file."""
    if path.name in _RESULTS:
        return without_times(json.loads(path.read_bytes()))
    if path.name == _LOG:
        # As text: what is no number equals itself.
        return repr(without_times(pq.read_table(path).to_pydict()))
    return path.read_bytes()


def without_times(value: Any) -> Any:
    """Return JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {
            key: without_times(entry) for key, entry in value.items() if key not in {*_TIMES, _LOG}
        }
    if isinstance(value, list):
        return [without_times(entry) for entry in value]
    return value


_HEAD = (
    "| command | killed at | parts kept | work until then | work resumed | left | factor | same |",
    "|---|---|---|---|---|---|---|---|",
)


def _row(case: Case, kill: Killed) -> str:
    factor = kill.resumed / kill.left
    same = "yes" if not kill.problems else "NO: " + "; ".join(kill.problems)
    return (
        f"| {case.name} | {kill.moment:.0%} | {kill.parts} | {kill.work:.1f} s |"
        f" {kill.resumed:.1f} s | {kill.left:.1f} s | {factor:.2f} | {same} |"
    )


def _of_sample(name: str) -> tuple[str, ...]:
    return (str(SAMPLES / f"{name}.onnx"), "--data", str(SAMPLES / f"{name}.toml"))


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


if __name__ == "__main__":
    main()
