"""Fuzz the commands with random and damaged networks, settings, data and certificates.

    python tests/benchmarks/fuzz_models.py --inspect 10000 --analyze 1000 --files 10000 --certificates 1000 --seed 0

Every outcome must be a right number (compared with plain onnxruntime of the file, integers exact)
or a clear refusal. Cases run in a process
that is watched: one that dies or does not answer in time is a fault too. A case follows from kind,
seed and number alone; finished ones are kept
in --out, so that the command can be interrupted and run again; --start begins at a number. One case
again, with its traceback:

    python tests/benchmarks/fuzz_models.py --again inspect 17 --seed 0
"""  # noqa: E501

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 12 * 2**30  # address space of a watched process; torch and onnxruntime alone take 3 GB
KINDS = ("inspect", "analyze", "files", "certificate")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for kind in KINDS:
        parser.add_argument(
            f"--{kind}" + ("s" if kind == "certificate" else ""),
            dest=kind,
            type=int,
            default=0,
            metavar="N",
            help=f"Cases of kind {kind}",
        )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="First number")
    parser.add_argument("--seconds", type=float, default=300.0, help="Longest time of one case")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    parser.add_argument(
        "--again", nargs=2, metavar=("KIND", "NUMBER"), help="Run one case here, with tracebacks"
    )
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["CIMROBUST_PROGRESS"] = "none"  # what is left on stderr must be one clear line
    if options.worker:
        return _work(
            options.worker[0], options.seed, int(options.worker[1]), int(options.worker[2])
        )
    if options.again:
        os.environ["CIMROBUST_DEBUG"] = "1"
        return _work(
            options.again[0], options.seed, int(options.again[1]), int(options.again[1]) + 1
        )
    options.out.mkdir(parents=True, exist_ok=True)
    return max(_campaign(kind, getattr(options, kind), options) for kind in KINDS)


def _work(kind: str, seed: int, first: int, last: int) -> int:
    """Run cases and print one JSON line when each begins, one when it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.insert(0, str(ROOT))
    from tests.fuzz.cases import run_case  # noqa: PLC0415  # after the limits

    for number in range(first, last):
        print(json.dumps({"number": number}), flush=True)
        began = time.monotonic()
        outcome = run_case(kind, seed, number)
        print(
            json.dumps(
                {
                    "number": number,
                    "word": outcome.word,
                    "text": outcome.text,
                    "seconds": round(time.monotonic() - began, 2),
                }
            ),
            flush=True,
        )
    return 0


def _campaign(kind: str, count: int, options: argparse.Namespace) -> int:
    """Run the cases of one kind that have no result yet; return 1 if any is a fault."""
    if not count:
        return 0
    path = options.out / f"{kind}-{options.seed}.jsonl"
    done = (
        {row["number"]: row for row in map(json.loads, path.read_text().splitlines())}
        if path.exists()
        else {}
    )
    wanted = range(options.start, options.start + count)
    with path.open("a") as log:
        for row in _watched(kind, [number for number in wanted if number not in done], options):
            done[row["number"]] = row
            log.write(json.dumps(row) + "\n")
            log.flush()
            if row["word"] == "fault":
                print(f"{kind} {row['number']}: {row['text'][:1000]}", flush=True)
    rows = [done[number] for number in wanted if number in done]
    words = collections.Counter(row["word"] for row in rows)
    print(
        f"{kind}, seed {options.seed}: {len(rows)} cases, {dict(words)},"
        f" {sum(row['seconds'] for row in rows):.0f} s",
        flush=True,
    )
    return int(words["fault"] > 0)


def _watched(kind: str, numbers: list[int], options: argparse.Namespace):
    """Yield the result of every case, from processes that are begun anew when one dies or hangs,
    and every 200 cases.
    """
    while numbers:
        batch = [number for number in numbers[:200] if number < numbers[0] + 200]
        current, finished = batch[0], False
        command = [
            sys.executable,
            __file__,
            "--seed",
            str(options.seed),
            "--worker",
            kind,
            str(batch[0]),
            str(batch[-1] + 1),
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
        ) as process:
            for row in _lines(process, options.seconds):
                current = row["number"]
                finished = "word" in row
                if finished and current in batch:
                    yield row
            process.kill()
            code = process.wait()
        if not finished:
            what = "no answer in time, or the process died"
            yield {
                "number": current,
                "word": "fault",
                "text": f"{what}, exit code {code}",
                "seconds": options.seconds,
            }
        numbers = [number for number in numbers if number > current]


def _lines(process: subprocess.Popen, seconds: float):
    """Yield the lines of a process as long as they come in time."""
    buffer = b""
    while select.select([process.stdout], [], [], seconds)[0]:
        part = os.read(process.stdout.fileno(), 2**16)
        if not part:
            return
        *lines, buffer = (buffer + part).split(b"\n")
        for line in lines:
            if line.startswith(b'{"number"'):
                yield json.loads(line)


if __name__ == "__main__":
    sys.exit(main())
