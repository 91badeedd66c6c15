"""Runs that are killed at random moments, resumed, and compared with one that never stopped.

    python tests/benchmarks/kill_and_resume.py --moments 40 --out reports/kill_and_resume.md
    python tests/benchmarks/kill_and_resume.py --network breast_cancer_mlp --limit 10 --trials 30

Each row of the table is one kill -9. Files must be the same byte for byte, results in JSON but for
their times, and so must what is printed with --json. After the kill no file under a final name may
be other than whole: that of a whole run, or the one that was there before. Commands without
--resume are run again. Work is measured in processor seconds of the process and its threads, since
other programs that run meanwhile make wall-clock time longer. *Left* is what the whole run takes,
less what the killed one had taken, plus what every run takes before its first part beside drawn
chips is kept; *factor* is what the resumed run took over that.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

#: Stands for the folder of a run in the arguments of a command.
OUT = "OUT"
#: Exit codes of commands that did what they are for: gates fail, and find no verdict.
_ENDED = (0, 1, 3)
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
        arguments: Of `cimrobust`; `OUT` in them is the folder that it works on.
        resumes: Whether it goes on where it stopped; else it is run again.
        before: Commands that make the folder that it works on.
    """

    name: str
    arguments: Sequence[str]
    resumes: bool = True
    before: Sequence[Sequence[str]] = ()


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


def cases(network: str, limit: int, trials: int, key: Path) -> tuple[Case, ...]:
    """Return the commands, on a sample network and so many samples and drawn chips.

    Args:
        network: Name of the sample.
        limit: Samples.
        trials: Drawn chips.
        key: Private key to sign with; beside it, `policy.toml` for suggestions.
    """
    cnn = _of_sample(network)
    mlp = _of_sample("breast_cancer_mlp")
    few = ("--limit", str(limit), "--trials", str(trials), "--workers", "2", "--effort")
    device = ("--limit", str(limit), "--workers", "2", "--effort", "quick")
    made = ("analyze", *mlp, *few, "quick", "--diagnostics", "none", "--out", OUT)
    made_in = (*made[:-1], f"{OUT}/made")
    half = ("analyze", *mlp, *few, "quick", "--out", OUT, "--shard")
    policy = ("--policy", str(SAMPLES / "policies" / "tumours.toml"))
    wanted = ("--policy", str(key.with_name("policy.toml")))
    return (
        _writing("analyze quick", "analyze", *cnn, *few, "quick", "--diagnostics", "all"),
        _writing("analyze standard", "analyze", *cnn, *few, "standard"),
        _writing(
            "analyze rare",
            *("analyze", *mlp, *few, "quick", "--rare-below", "0.9", "--rare-budget", "2000"),
        ),
        _writing("sweep", "sweep", *cnn, *few, "quick", "--tolerances", "0.005,0.02"),
        _writing(
            "retrain",
            *("retrain", *mlp, *few, "quick", "--epochs", "3", "--search-passes", "3"),
            *("--draws", "2", "--diagnostics", "none"),
        ),
        _writing("analyze cluster", "analyze", *mlp, *few, "quick", "--cluster", "processes:2"),
        _writing("analyze shard", "analyze", *mlp, *few, "quick", "--shard", "1/2"),
        Case(
            "analyze shards",
            ("analyze", *mlp, *few, "quick", "--shards", OUT, "--out", f"{OUT}/all", "--resume"),
            before=((*half, "1/2"), (*half, "2/2")),
        ),
        _again(
            "rare",
            *("rare", *mlp, "--below", "0.9", *device, "--budget", "2000", "--json"),
            *("--chip", f"{OUT}/chip.safetensors"),
        ),
        _again(
            "suggest",
            *("suggest", *mlp, *wanted, *device, "--out", f"{OUT}/protected.toml", "--json"),
        ),
        _again(
            "verify",
            *("verify", *cnn, "--shares", "0.01,0.05", *device),
            *("--out", f"{OUT}/devices.parquet", "--json"),
        ),
        _again("rewrite", "rewrite", mlp[0], "--out", f"{OUT}/rewritten.onnx"),
        _again("replay", "replay", OUT, "--redraw", "10", "--json", before=(made,)),
        _again("report", "report", OUT, before=(made,)),
        _again("sign", "sign", OUT, "--key", str(key), before=(made,)),
        _again(
            "bom",
            *("bom", f"{OUT}/made", "--timestamp", "2026-11-29T12:00:00+00:00"),
            *("--out", f"{OUT}/bom.json"),
            before=(made_in,),
        ),
        _again(
            "compare",
            *("compare", f"{OUT}/made", f"{OUT}/made", "--out", f"{OUT}/change.html"),
            before=(made_in,),
        ),
        _again(
            "gate",
            *("gate", f"{OUT}/made", *policy, "--today", "2026-12-01"),
            *("--junit", f"{OUT}/gate.xml", "--sarif", f"{OUT}/gate.sarif"),
            before=(made_in,),
        ),
    )


def _writing(name: str, *arguments: str) -> Case:
    """Return a command that writes a folder, and goes on with --resume."""
    return Case(name, (*arguments, "--out", OUT, "--resume"))


def _again(name: str, *arguments: str, before: Sequence[Sequence[str]] = ()) -> Case:
    """Return a command that is run again after a kill."""
    return Case(name, arguments, resumes=False, before=before)


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
    asked.add_argument("--after", default="", help="cases behind this one")
    asked.add_argument("--out", type=Path, help="file of the table")
    given = asked.parse_args()
    rows: list[str] = []
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        key.write_bytes(_private_key())
        key.with_name("policy.toml").write_text(_POLICY, encoding="utf-8")
        known = cases(given.network, given.limit, given.trials, key)
        chosen = [case for case in known if given.only in case.name]
        names = [case.name for case in chosen]
        chosen = chosen[names.index(given.after) + 1 if given.after else 0 :]
        for index, case in enumerate(chosen):
            count = given.moments * (index + 1) // len(chosen) - given.moments * index // len(
                chosen
            )
            # A stream of its own, so that few kills a command come at different moments.
            draws = random.Random(f"{given.seed} {case.name}")
            place = Path(folder) / str(index)
            for kill in killed_and_resumed(case, place, count, draws):
                failed |= bool(kill.problems)
                rows.append(_row(case, kill))
                print(rows[-1], flush=True)
            shutil.rmtree(place, ignore_errors=True)
    table = "\n".join([*_HEAD, *rows]) + "\n"
    if given.out is not None:
        given.out.write_text(table, encoding="utf-8")
    sys.exit(1 if failed else 0)


def killed_and_resumed(
    case: Case, folder: Path, count: int, draws: random.Random
) -> Iterator[Killed]:
    """Yield what came of some kills of one command, at moments drawn evenly over its course."""
    prepared = folder / "prepared"
    prepared.mkdir(parents=True)
    for arguments in case.before:
        if ran(Case(case.name, arguments), prepared).code != 0:
            raise SystemExit(f"{case.name} must run, got an error of what comes before it")
    whole_out = _copied(prepared, folder / "whole")
    whole = ran(case, whole_out)
    if whole.code not in _ENDED:
        raise SystemExit(f"{case.name} must run, got exit code {whole.code}")
    started = _copied(prepared, folder / "started")
    start = ran(case, started, until=has_begun).work if case.resumes else whole.work
    for index in range(count):
        moment, out = draws.random(), _copied(prepared, folder / f"killed-{index}")
        end = time.perf_counter() + moment * whole.wall
        stopped = ran(case, out, until=lambda _, end=end: time.perf_counter() > end)
        problems = unfinished(out, prepared, whole_out)
        parts = len(list(out.glob("**/.resume*/*")))
        resumed = ran(case, out)
        if resumed.code != whole.code:
            problems += [f"exit code {resumed.code}"]
        problems += differences(whole_out, out)
        left = max(whole.work - stopped.work, 0.0) + start if case.resumes else whole.work
        yield Killed(moment, parts, stopped.work, resumed.work, left, problems)
        shutil.rmtree(out)


def _copied(source: Path, folder: Path) -> Path:
    """Return a copy of what a command works on."""
    return Path(shutil.copytree(source, folder))


def ran(case: Case, out: Path, *, until: Callable[[Path], bool] | None = None) -> Ended:
    """Run a command; kill it as soon as something holds of its folder, if it still runs then.

    What it prints is in a file beside the folder.
    """
    began = time.perf_counter()
    arguments = [argument.replace(OUT, str(out)) for argument in case.arguments]
    with _printed(out).open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cimrobust", *arguments],
            stdout=stream,
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


def _printed(out: Path) -> Path:
    return out.with_name(f"{out.name}.printed")


def has_begun(out: Path) -> bool:
    """Return whether a run has kept anything beside drawn chips."""
    return any(not path.name.startswith("trials") for path in out.glob("**/.resume*/[!.]*"))


def unfinished(out: Path, before: Path, whole: Path) -> list[str]:
    """Return files under final names that are not whole, after a kill.

    Each must be as it was before, or as a whole run leaves it.
    """
    problems = []
    for path in (path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out)
        if any(part.startswith(".") for part in name.parts):
            continue
        sources = [place / name for place in (before, whole) if (place / name).is_file()]
        if not sources:
            problems.append(f"{name} is no file of a whole run")
        elif name.name.endswith((".json", ".html", ".sha256")):
            problems += _cut_off(path)
        elif not any(_compared(source) == _compared(path) for source in sources):
            problems.append(f"{name} is cut off")
    return problems


def _cut_off(path: Path) -> list[str]:
    """Return whether a text that holds times lacks its end."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        try:
            json.loads(text)
        except ValueError:
            return [f"{path.name} is cut off"]
        return []
    is_whole = text.endswith("\n") if path.suffix != ".html" else "</html>" in text
    return [] if is_whole else [f"{path.name} is cut off"]


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
    printed = [_printed(place).read_bytes() for place in (whole, resumed)]
    if printed[0].startswith(b"{"):
        first, second = (_without_places(without_times(json.loads(text))) for text in printed)
        problems += ["what is printed differs"] if first != second else []
    return problems


def _without_places(value: Any) -> Any:
    """Return JSON without the folder of the run."""
    return json.loads(re.sub(r"/[^\"]*/(whole|killed-\d+)", "OUT", json.dumps(value)))


def _private_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _compared(path: Path) -> Any:
    """Return what two runs must have in common of a file."""
    if path.name in _RESULTS:
        return without_times(json.loads(path.read_bytes()))
    if path.name == _LOG:
        # As text: what is no number equals itself.
        return repr(without_times(pq.read_table(path).to_pydict()))
    if path.suffix == ".sarif":
        return _without_places(json.loads(path.read_bytes()))
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


_POLICY = """[conditions]
effort = "quick"

[[require]]
id = "R1"
worst_found_accuracy = 0.8
"""
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
