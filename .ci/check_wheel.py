"""Check that the wheel runs where there is no compiler: build, look inside, install, run the demo.

    python .ci/check_wheel.py                    builds sdist and wheel from the folder, checks both
    python .ci/check_wheel.py --wheel FILE       checks a wheel that is there
    python .ci/check_wheel.py --installed        runs the demo of the package in this environment

`make wheel-check` is the first, the workflow of wheels runs the last for every wheel.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What a wheel holds: folders of the repository, and where their files are in it.
SHIPPED = {"cimrobust": "cimrobust", "samples": "cimrobust/_samples"}
#: What is left of the environment of whoever runs this: no variable that names a compiler.
KEPT = ("HOME", "LANG", "TMPDIR")


def main() -> None:
    """Do what the options say; ends with an error at the first thing that is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="wheel to check; default: build one")
    parser.add_argument("--installed", action="store_true", help="check this environment")
    parser.add_argument("--sizes", action="store_true", help="list what takes the place on disk")
    options = parser.parse_args()
    if options.installed:
        _run_demo(Path(sys.executable).parent)
        return
    with tempfile.TemporaryDirectory(prefix="wheel-check-") as name:
        folder = Path(name)
        wheel = options.wheel or _built(folder)
        _show_platform(folder, wheel)
        lacking = missing_files(wheel, ROOT)
        if lacking:
            raise SystemExit(f"{wheel.name} must hold every file, lacks {', '.join(lacking[:20])}")
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, complete", flush=True)
        programs = _installed(folder / "empty", wheel)
        _run_demo(programs)
        if options.sizes:
            _run(str(programs / "python"), __file__, "--list", path=programs)


def missing_files(wheel: Path, root: Path) -> list[str]:
    """Return files of package and samples that a wheel lacks, and what it must have beside them."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        f"{inside}/{path.relative_to(root / outside).as_posix()}"
        for outside, inside in SHIPPED.items()
        for path in _shipped_files(root / outside)
    }
    lacking = sorted(wanted - names)
    if not any(name.startswith("cimrobust/_native.") for name in names):
        lacking.append("cimrobust/_native.*")
    return lacking


def _shipped_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so":
            yield path


def _built(folder: Path) -> Path:
    """Build an sdist, and the wheel from it, as an index would hand them out."""
    programs = _environment(folder / "builder")
    _pip(programs, "install", "--quiet", "build", path=None)
    command = [programs / "python", "-m", "build", "--outdir", folder / "dist", ROOT]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    print(f"{sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB", flush=True)
    return wheel


def _show_platform(folder: Path, wheel: Path) -> None:
    """Print for which systems the binary of a wheel is good enough, on Linux."""
    if sys.platform != "linux":
        return
    programs = _environment(folder / "auditor")
    _pip(programs, "install", "--quiet", "auditwheel", path=None)
    subprocess.run([str(programs / "auditwheel"), "show", str(wheel)], check=True)


def _installed(folder: Path, wheel: Path) -> Path:
    """Install a wheel with its dependencies, from wheels alone; return where the programs are."""
    programs = _environment(folder)
    constraints = ROOT / "constraints.txt"
    asked = ["--quiet", "--only-binary", ":all:", "--constraint", str(constraints), str(wheel)]
    _pip(programs, "install", *asked, path=programs)
    return programs


def _run_demo(programs: Path) -> None:
    """Run what a new user runs, in an empty folder and without a compiler."""
    with tempfile.TemporaryDirectory(prefix="wheel-demo-") as name:
        folder = Path(name)
        command = str(programs / "cimrobust")
        _run(command, "doctor", path=programs, folder=folder)
        _run(command, "demo", "--out", "demo", path=programs, folder=folder)
        certificate = json.loads((folder / "demo" / "certificate.json").read_text())
        wanted = ["certificate.html", "certificate.json", "trials.parquet", "witness"]
        lacking = [part for part in wanted if not (folder / "demo" / part).exists()]
        worst, clean = certificate["worst_found"]["score"], certificate["clean"]["score"]
        if lacking or not worst < 0.5 < clean:
            raise SystemExit(
                f"the demo must find a chip below 50 % and write all files, got {worst:.4f} of"
                f" {clean:.4f}, without {lacking}"
            )
        print(f"demo: {certificate['verdict']['word']}, worst found {worst:.4f}", flush=True)


def _environment(folder: Path) -> Path:
    venv.EnvBuilder(with_pip=True).create(folder)
    return folder / "bin"


def _pip(programs: Path, *arguments: str, path: Path | None) -> None:
    _run(
        str(programs / "python"), "-m", "pip", "--disable-pip-version-check", *arguments, path=path
    )


def _run(*command: str, path: Path | None, folder: Path | None = None) -> None:
    """Run a command; with `path`, the programs there are all that it finds."""
    environment = None
    if path is not None:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in KEPT or name.startswith("PIP_")
        }
        environment = {**kept, "PATH": str(path), "CC": "false", "CXX": "false"}
    subprocess.run(command, check=True, env=environment, cwd=folder)


def installed_sizes() -> list[tuple[str, float]]:
    """Return the packages of this environment with the megabytes of their files, largest first."""
    sizes = []
    for package in metadata.distributions():
        files = [Path(str(package.locate_file(file))) for file in package.files or []]
        total = sum(file.stat().st_size for file in files if file.is_file())
        sizes.append((package.metadata["Name"], total / 1e6))
    return sorted(sizes, key=lambda row: -row[1])


def _print_sizes(sizes: Sequence[tuple[str, float]]) -> None:
    for name, size in sizes:
        print(f"{name:<28}{size:>9.1f} MB")
    print(f"{'all':<28}{sum(size for _, size in sizes):>9.1f} MB", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        _print_sizes(installed_sizes())
    else:
        main()
