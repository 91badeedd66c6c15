"""Which changes of the code no test sees: `python tests/benchmarks/mutants.py certify --count 60`.

Draws mutants of one package (`code_mutations.py`), puts each into a copy of the checkout, and runs
the tests that run its line, quickest first, until one fails. Which tests run which line is measured
once, by coverage. A process that has imported what lies below the package is forked for every
mutant. Results are kept in --out: a command that is interrupted goes on where it stopped, and
--again runs those that survived once more, with the tests of today.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import pkgutil
import random
import resource
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest
from code_mutations import Mutation, mutations_of

ROOT = Path(__file__).resolve().parents[2]
#: What tests a package. Files that take minutes are left out.
TESTS = {
    "certificate": (
        *("tests/unit/certificate", "tests/unit/report", "tests/unit/review"),
        *("tests/property/test_policies.py", "tests/forgery"),
        *(f"tests/cli/test_{name}.py" for name in ("bom", "compare", "sign", "suggest", "sweep")),
    ),
    "certify": ("tests/unit/certify", "tests/cli/test_certified.py"),
    "montecarlo": (
        "tests/unit/montecarlo",
        "tests/unit/test_binomial.py",
        *(f"tests/statistics/test_{name}.py" for name in ("anytime", "quantile", "samples")),
        *(f"tests/statistics/test_{name}.py" for name in ("splitting", "two_source")),
    ),
    "review": ("tests/unit/review", "tests/unit/certificate/test_gate.py", "tests/forgery"),
}
_LEFT_OUT = ("--deselect=tests/unit/certify/test_soundness.py",)
_HEAVY = ("torch", "onnxruntime", "pyarrow.parquet", "scipy.stats", "hypothesis", "jsonschema")
_QUIET = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=TESTS)
    parser.add_argument("--count", type=int, default=60, help="Mutants to draw, of each --only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[""], help="Texts of the modules' paths")
    parser.add_argument("--tests", nargs="+", help="Files and folders in place of the package's")
    parser.add_argument("--again", action="store_true", help="Those that survived, once more")
    parser.add_argument("--most", type=float, default=60.0, help="Processor seconds of one mutant")
    parser.add_argument("--out", type=Path, default=Path("out/mutants"))
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    rows = Rows(out / f"{options.package}.jsonl")
    drawn = list(
        dict.fromkeys(
            mutation
            for only in options.only
            for mutation in draw(options.package, only, options.count, options.seed)
        )
    )
    wanted = [mutation for mutation in drawn if rows.is_wanted(mutation, again=options.again)]
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder)
        copy_checkout(checkout)
        start_in(checkout, options.package)
        seen = measure(options.tests or TESTS[options.package], options.package)
        for mutation in wanted:
            row = judge(mutation, seen, checkout, options.most)
            rows.add(mutation, row)
            print(f"{row['status']:9} {row['seconds']:6.1f} s {mutation.name}", flush=True)
    rows.summarise(drawn)


class Rows:
    """What became of the mutants that were run, kept in a file of lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._known = {row["name"]: row for row in map(json.loads, lines)}

    def is_wanted(self, mutation: Mutation, *, again: bool) -> bool:
        row = self._known.get(mutation.name)
        return row is None or (again and row["status"] in {"survived", "no test"})

    def add(self, mutation: Mutation, row: dict[str, Any]) -> None:
        whole = {"name": mutation.name, **dataclasses.asdict(mutation), **row}
        self._known[mutation.name] = whole
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(whole) + "\n")

    def summarise(self, drawn: list[Mutation]) -> None:
        rows = [self._known[mutation.name] for mutation in drawn if mutation.name in self._known]
        for row in rows:
            if row["status"] in {"survived", "no test"}:
                print(f"\n{row['name']} ({row['status']}, {row['tests']} tests)")
                print(f"    - {row['before']}\n    + {row['after']}")
        print(json.dumps(Counter(row["status"] for row in rows)))


def draw(package: str, only: str, count: int, seed: int) -> list[Mutation]:
    """Return mutants of a package, at most one a line, drawn without replacement."""
    files = sorted((ROOT / "cimrobust" / package).rglob("*.py"))
    names = {path: path.relative_to(ROOT).as_posix() for path in files}
    found = [
        one for path in files if only in names[path] for one in mutations_of(path, names[path])
    ]
    random.Random(seed).shuffle(found)
    of_lines = {(one.path, one.line): one for one in reversed(found)}
    chosen = [one for one in found if of_lines[one.path, one.line] is one]
    return chosen[:count]


def copy_checkout(folder: Path) -> None:
    """Copy what tests read."""
    ignored = shutil.ignore_patterns("__pycache__", "out")
    for name in ("cimrobust", "tests", "samples", "docs", "reports"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy2(ROOT / name, folder / name)


def start_in(checkout: Path, package: str) -> None:
    """Make this process one that imports the copy, and import all that lies below the package."""
    os.chdir(checkout)
    sys.path.insert(0, str(checkout))
    os.environ |= {"PYTHONPATH": str(checkout), "CIMROBUST_PROGRESS": "none"}
    for name in _HEAVY:
        importlib.import_module(name)
    for name in modules_below(package):
        importlib.import_module(name)
    assert f"cimrobust.{package}" not in sys.modules, "the package is imported by its tests"
    assert Path(sys.modules["cimrobust"].__file__ or "").is_relative_to(checkout)


def modules_below(package: str) -> Iterator[str]:
    """Yield the modules that may not import a package, by the contract of layers."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = contract["tool"]["importlinter"]["contracts"][0]["layers"]
    sets = [set(layer.split(" | ")) for layer in layers]
    above = next(index for index, names in enumerate(sets) if package in names)
    for name in sorted(set().union(*sets[above + 1 :])):
        yield f"cimrobust.{name}"
        folder = ROOT / "cimrobust" / name
        if folder.is_dir():
            for found in pkgutil.walk_packages([str(folder)], f"cimrobust.{name}."):
                if not found.name.endswith("__main__"):
                    yield found.name


@dataclasses.dataclass(frozen=True)
class Seen:
    """What tests run: their processor seconds, and the tests of every line of every module."""

    seconds: dict[str, float]
    of_lines: dict[str, dict[int, list[str]]]

    def tests_of(self, mutation: Mutation) -> list[str]:
        """Return the tests that run a mutant's line, quickest first.

        A line that runs where its module is imported is one of all tests of the module. Of what
        stands on several lines any may run: Python tells branches of an expression apart by them.
        """
        lines = self.of_lines.get(mutation.path, {})
        last = mutation.line + mutation.before.count("\n")
        of_line = [name for line in range(mutation.line, last + 1) for name in lines.get(line, [])]
        if "" in of_line:
            of_line = [name for names in lines.values() for name in names]
        return sorted(set(of_line) - {""}, key=lambda name: (self.seconds[name], name))


def measure(tests: list[str] | tuple[str, ...], package: str) -> Seen:
    """Run all tests once, unchanged, and return what they ran."""
    found = Path("seen.json").resolve()

    def run() -> int:
        measured = coverage.Coverage(
            data_file=None, config_file=False, source_pkgs=[f"cimrobust.{package}"]
        )
        recorder = Recorder(measured)
        measured.start()
        code = int(pytest.main([*_QUIET, *_LEFT_OUT, *tests], plugins=[recorder]))
        measured.stop()
        found.write_text(json.dumps(recorder.seen()), encoding="utf-8")
        return code

    code, seconds = in_fork(run, most=3600.0, log=Path("measure.log"))
    if code != 0:
        print(Path("measure.log").read_text(encoding="utf-8")[-4000:])
        sys.exit("tests must pass before anything is changed")
    read = json.loads(found.read_text(encoding="utf-8"))
    lines = {
        path: {int(line): names for line, names in of_lines.items()}
        for path, of_lines in read["lines"].items()
    }
    print(f"{len(read['seconds'])} tests, {seconds:.0f} s of one processor", flush=True)
    return Seen(read["seconds"], lines)


class Recorder:
    """A plugin of pytest that says which test runs which line, and how long each takes.

    What a fixture runs counts for every test that uses it.
    """

    def __init__(self, measured: coverage.Coverage) -> None:
        self.coverage = measured
        self._context = ""
        self._seconds: dict[str, float] = {}
        self._fixtures: dict[str, list[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[object]:
        before = processor_seconds()
        self._switch(item.nodeid)
        names = getattr(item, "fixturenames", [])
        self._fixtures[item.nodeid] = [f"fixture {name}" for name in names]
        done = yield
        self._seconds[item.nodeid] = processor_seconds() - before
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Iterator[object]:
        before = self._context
        self._switch(f"fixture {fixturedef.argname}")
        done = yield
        self._switch(before)
        return done

    def _switch(self, name: str) -> None:
        self._context = name
        self.coverage.switch_context(name)

    def seen(self) -> dict[str, Any]:
        users: dict[str, list[str]] = {}
        for test, names in self._fixtures.items():
            for name in names:
                users.setdefault(name, []).append(test)
        data = self.coverage.get_data()
        lines = {}
        for path in data.measured_files():
            by_line = data.contexts_by_lineno(path)
            lines[os.path.relpath(path)] = {
                line: sorted({test for name in names for test in users.get(name, [name])})
                for line, names in by_line.items()
            }
        return {"seconds": self._seconds, "lines": lines}


def judge(mutation: Mutation, seen: Seen, checkout: Path, most: float) -> dict[str, Any]:
    """Return what becomes of a mutant: killed, survived, or out of time."""
    tests = seen.tests_of(mutation)
    total, chosen = 0.0, []
    for name in tests:
        total += seen.seconds[name]
        if chosen and total > most:
            break
        chosen.append(name)
    row: dict[str, Any] = {"tests": len(chosen), "left_out": len(tests) - len(chosen)}
    if not chosen:
        return {**row, "status": "no test", "by": None, "seconds": 0.0}
    path, log = checkout / mutation.path, checkout / "mutant.log"
    source = path.read_text(encoding="utf-8")
    kept = path.stat()
    path.write_text(mutation.applied_to(source), encoding="utf-8")
    # Python takes a compiled module for that of a source of the same second and size.
    os.utime(path, (kept.st_atime, kept.st_mtime + 10))

    def run() -> int:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        return int(pytest.main([*_QUIET, "-x", "--tb=line", *chosen]))

    try:
        code, seconds = in_fork(run, most=10.0 + 4.0 * min(total, 2 * most), log=log)
    finally:
        path.write_text(source, encoding="utf-8")
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    status = {0: "survived", -1: "timeout"}.get(code, "killed")
    lines = log.read_text(encoding="utf-8").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {**row, "status": status, "by": failed[-1][:300] if failed else None, "seconds": seconds}


def in_fork(run: Callable[[], int], *, most: float, log: Path) -> tuple[int, float]:
    """Run a function in a fork of this process.

    Args:
        run: Returns an exit code.
        most: Processor seconds after which it is ended.
        log: What takes its output.

    Returns:
        The code, -1 where it was ended, and the processor seconds that it took.
    """
    before = processor_seconds()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (int(most) + 1, int(most) + 1))
            with log.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            code = run()
        finally:
            sys.stdout.flush()
            os._exit(code)
    until = time.monotonic() + 60.0 + 20.0 * most
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.killpg(child, 9)
        time.sleep(0.1)
    code = -1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return code, processor_seconds() - before


def processor_seconds() -> float:
    """Return what this process and those that it has waited for have taken."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


if __name__ == "__main__":
    main()
