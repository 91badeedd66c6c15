"""Files that never end, and places that cannot be written to, for every option of every command:
one sentence, the right exit code, no waiting.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cimrobust import files
from cimrobust.cli.main import run
from tests.cli.test_bad_input import arguments, write_good

pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture
def in_time():
    """Fail where a file is waited for."""

    def stop(*_):
        pytest.fail("waited")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(500)  # imports are slow where many tests run
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2**41)


FILES = {"m.onnx": 5, "d.toml": 2, "d.npz": 5, "p.toml": 2, "policy.toml": 2}


@pytest.mark.parametrize("make", [fifo, zeros, folder, huge])
@pytest.mark.parametrize("name", FILES)
def test_every_file_of_an_analysis_is_looked_at_first(name, make, tmp_path, capsys):
    write_good(tmp_path)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    code = run(arguments(tmp_path))
    error = capsys.readouterr().err
    assert code == (2 if make is folder else FILES[name]), error
    assert name in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "certificate.json").exists()


OTHERS = {
    "inspect model": (["inspect", "BAD"], 5),
    "inspect device": (["inspect", "m.onnx", "--device", "BAD"], 2),
    "devices check": (["devices", "check", "BAD"], 2),
    "devices show": (["devices", "show", "BAD"], 2),
    "devices fit": (["devices", "fit", "BAD", "-o", "new.toml"], 5),
    "rewrite": (["rewrite", "BAD", "-o", "new.onnx"], 5),
    "labels-of": (
        ["analyze", "m.onnx", "--data", "self.toml", "--labels-of", "BAD", "--out", "out"],
        5,
    ),
    "calibration": (
        [
            "analyze",
            "m.onnx",
            "--data",
            "d.toml",
            "--calibration",
            "BAD",
            "--device",
            "adc.toml",
            "--out",
            "out",
        ],
        2,
    ),
    "sweep data": (["sweep", "m.onnx", "--data", "BAD", "--tolerances", "0.01", "--out", "out"], 2),
    "rare data": (["rare", "m.onnx", "--data", "BAD", "--below", "0.5"], 2),
    "verify data": (["verify", "m.onnx", "--data", "BAD", "--out", "list.parquet"], 2),
    "retrain data": (["retrain", "m.onnx", "--data", "BAD", "--out", "out"], 2),
}


@pytest.mark.parametrize("make", [fifo, zeros])
@pytest.mark.parametrize("name", OTHERS)
def test_every_file_of_other_commands_is_looked_at_first(name, make, tmp_path, capsys, monkeypatch):
    write_good(tmp_path)
    monkeypatch.chdir(tmp_path)
    parts, code = OTHERS[name]
    bad = "bad.toml" if code == 2 else "bad.csv"
    make(tmp_path / bad)
    (tmp_path / "self.toml").write_text(
        (tmp_path / "d.toml").read_text() + "[label]\nself = true\n"
    )
    (tmp_path / "adc.toml").write_text((tmp_path / "p.toml").read_text() + "[adc]\nbits = 8\n")
    assert run([bad if part == "BAD" else part for part in parts]) == code
    error = capsys.readouterr().err
    assert f"{bad}" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("make", [fifo, zeros])
@pytest.mark.parametrize(
    "name",
    [
        "certificate.json",
        "certificate.html",
        "trials.parquet",
        "certified.parquet",
        "witness/deviations.safetensors",
        "witness/devices.safetensors",
        "witness/worst_case.onnx",
    ],
)
def test_every_file_of_a_certificate_is_looked_at_first(name, make, certified, tmp_path, capsys):
    for path in certified.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(certified)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    make(tmp_path / name)
    code = run(["replay", str(tmp_path)])
    said = capsys.readouterr()
    assert code == (5 if name == "certificate.json" else 6)
    assert "must be a regular file" in said.out + said.err
    assert "Traceback" not in said.out + said.err


def test_gate_looks_at_its_files_first(certified, tmp_path, capsys):
    fifo(tmp_path / "policy.toml")
    assert run(["gate", str(certified), "--policy", str(tmp_path / "policy.toml")]) == 2
    assert "policy must be a regular file, got a pipe (FIFO)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [{"defaults_used": 0.5}, {"defaults_used": None}, {"weight": [1]}, {"name": {"a": 1}}],
)
def test_certificates_that_contradict_themselves_are_refused(changes, certified, tmp_path, capsys):
    for path in (certified / "certificate.json", certified / "trials.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    held = json.loads((tmp_path / "certificate.json").read_text())
    held["device"]["profile"] |= changes
    (tmp_path / "certificate.json").write_text(json.dumps(held))
    for command in (["report", str(tmp_path)], ["replay", str(tmp_path)]):
        code = run(command)
        said = capsys.readouterr()
        assert code in (0, 5, 6)
        assert (code != 6) or not said.err
        assert said.err.count("\n") <= 1


@pytest.mark.parametrize("out", ["file", "file/below", "loop", "x" * 300, "nul\0"])
def test_output_folders_that_cannot_be(out, tmp_path, capsys):
    write_good(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    parts = arguments(tmp_path)
    parts[parts.index("--out") + 1] = str(tmp_path / out)
    assert run(parts) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["certificate.json", "certificate.html"])
def test_a_full_disk_leaves_no_part_of_a_file(name, tmp_path, capsys, monkeypatch):
    write_good(tmp_path)
    whole = files.write_whole

    def fill(path: Path, content: bytes) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        whole(path, content)

    monkeypatch.setattr("cimrobust.certificate.certificate_files.write_whole", fill)
    assert run(arguments(tmp_path)) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "certificate.json").exists()
    assert not list((tmp_path / "out").glob(".*writing*"))


def test_a_disk_that_fills_while_tables_are_written(tmp_path, capsys, monkeypatch):
    write_good(tmp_path)

    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pyarrow.parquet.write_table", fill)
    assert run(arguments(tmp_path)) == 2
    assert "output folder writable, got 'No space left on device'" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (MemoryError(), 5, "must fit into memory"),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"
            ),
            5,
            "tried to allocate 99 bytes",
        ),
        (SystemExit(0), 70, "something ended the process with 0"),
        (SystemExit(), 70, "something ended the process"),
        (OSError(errno.EMFILE, "Too many open files"), 2, "Too many open files"),
        (OSError(errno.ECHILD, "No child processes"), 70, "internal error"),
        (ValueError("a\n\x1b[31mb"), 70, "ValueError: a ?[31mb"),
    ],
)
def test_whatever_is_raised_ends_in_its_own_code_and_one_line(
    error, code, text, tmp_path, capsys, monkeypatch
):
    write_good(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cimrobust.pipeline.inspection.load_network", fail)
    assert run(["inspect", str(tmp_path / "m.onnx")]) == code
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("shell", "code"), [("> /dev/full", 2), ("| true; exit ${PIPESTATUS[0]}", 141), (">&-", 0)]
)
def test_output_that_nobody_gets_is_no_success(shell, code):
    command = f"'{sys.executable}' -m cimrobust devices list --json {shell}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == code
    assert "Traceback" not in ran.stderr
    assert ran.stderr.count("\n") <= 1


def test_a_data_function_never_makes_a_success(tmp_path, capsys, monkeypatch):
    write_good(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import os\ndef leave(): raise SystemExit(0)\ndef die(): os._exit(0)\n"
    )
    for name in ("sys:exit", "mine:leave", "mine:die"):
        parts = arguments(tmp_path)
        parts[parts.index("--data") + 1] = name
        assert run(parts) == 2
        assert name in capsys.readouterr().err


def test_a_description_needs_leave_to_run_code(tmp_path, capsys, monkeypatch):
    write_good(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        'import numpy as np\ndef data(): print("noise"); return {"x": np.zeros((4, 4), "f4"), "y":'
        " [0] * 4}\n"
    )
    (tmp_path / "d.toml").write_text('schema = 1\nfile = "mine:data"\n')
    parts = [*arguments(tmp_path), "--json"]
    assert run(parts) == 2
    assert "give --allow-code" in capsys.readouterr().err
    assert run([*parts, "--allow-code"]) == 0
    assert capsys.readouterr().out.startswith("{")


NUMBERS = [
    ("--trials", "9999999999999999"),
    ("--trials", "0"),
    ("--limit", "0"),
    ("--limit", "-1"),
    ("--limit", str(2**70)),
    ("--workers", "0"),
    ("--workers", "1000000000"),
    ("--seed", "-1"),
    ("--seed", str(2**70)),
    ("--tolerance", "nan"),
    ("--tolerance", "inf"),
    ("--tolerance", "-1"),
    ("--tolerance", "1e300"),
    ("--rare-below", "nan"),
    ("--rare-budget", "1000000000000"),
    ("--safety-class", str(2**40)),
    ("--trials", "1e3"),
    ("--trials", "9" * 5000),
]


@pytest.mark.parametrize(("option", "value"), NUMBERS)
def test_numbers_that_no_run_can_take(option, value, tmp_path, capsys):
    write_good(tmp_path)
    assert run([*arguments(tmp_path), option, value]) == 2
    assert option in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
