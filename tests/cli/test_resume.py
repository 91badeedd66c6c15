"""Analyses that die at any moment and go on: the same files, and nothing half written."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cimrobust import finished_parts
from cimrobust.certificate.manifest import manifest_problems
from cimrobust.cli.main import run

#: Kills itself in the middle of writing the part with a number: half of it lies there, unnamed.
_DYING = """
import os, signal, sys
from cimrobust import finished_parts, files
from cimrobust.cli.main import run

left, write = [int(sys.argv[1])], files.write_whole
def dies(path, content):
    left[0] -= 1
    if left[0] < 0:
        path.with_name(f".{path.name}.x.part").write_bytes(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, content)
finished_parts.write_whole = dies
sys.exit(run(sys.argv[2:]))
"""


def arguments(samples: Path, out: Path, *more: str) -> list[str]:
    model, data = (str(samples / f"breast_cancer_mlp.{end}") for end in ("onnx", "toml"))
    few = ("--effort", "quick", "--limit", "20", "--trials", "20", "--diagnostics", "layers")
    return ["analyze", model, "--data", data, "--out", str(out), *few, *more]


def without_times(value):
    if isinstance(value, dict):
        return {
            key: without_times(entry)
            for key, entry in value.items()
            if key not in ("timings", "seconds")
        }
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def certificate_of(folder: Path) -> dict:
    return without_times(json.loads((folder / "certificate.json").read_text()))


def assert_same(folder: Path, whole: Path) -> None:
    """The same certificate but for its times, and the same bytes of everything else."""
    assert certificate_of(folder) == certificate_of(whole)
    assert manifest_problems(folder) == []
    names = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert sorted(names) == sorted(
        path.relative_to(folder) for path in folder.rglob("*") if path.is_file()
    )
    for name in names:
        if name.suffix not in (".html", ".json"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.fixture(scope="module")
def whole(samples, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(arguments(samples, out)) == 0
    return out


def test_a_killed_analysis_ends_as_if_it_had_not_been(samples, whole, tmp_path):
    seed = random.randrange(10**6)
    writes = random.Random(seed).randrange(1, 12)
    words = arguments(samples, tmp_path / "out")
    killed = subprocess.run([sys.executable, "-c", _DYING, str(writes), *words], check=False)
    assert killed.returncode == -signal.SIGKILL, seed
    assert not list((tmp_path / "out").glob("[!.]*")), seed
    assert len(list((tmp_path / "out" / ".resume").glob("[!.]*.part"))) <= writes, seed
    assert run([*words, "--resume"]) == 0, seed
    assert_same(tmp_path / "out", whole)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
def test_an_interrupted_analysis_goes_on(samples, whole, tmp_path, monkeypatch, share):
    """As a kill, but in this process, which is quicker."""
    write, written = finished_parts.write_whole, []
    last = round(share * 40)

    def stops(path, content):
        written.append(path)
        if len(written) > last:
            raise KeyboardInterrupt
        write(path, content)

    words = arguments(samples, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(finished_parts, "write_whole", stops)
        code = run(words)
    assert code in (0, 130)
    assert run([*words, "--resume"]) == 0
    assert_same(tmp_path / "out", whole)


def stops(*args, **kwargs):
    raise KeyboardInterrupt


def stop_before_writing(words, monkeypatch):
    """Interrupt a run once all is computed."""
    with monkeypatch.context() as patched:
        patched.setattr("cimrobust.pipeline.analysis.write_files", stops)
        assert run(words) == 130


def test_what_is_finished_is_not_done_again(samples, whole, tmp_path, monkeypatch):
    words = arguments(samples, tmp_path / "out")
    stop_before_writing(words, monkeypatch)
    monkeypatch.setattr("cimrobust.search.climb._climb", stops)
    monkeypatch.setattr("cimrobust.certify.bound_batch.propagate", stops)
    monkeypatch.setattr("cimrobust.montecarlo.effect_costs._score", stops)
    assert run([*words, "--resume"]) == 0
    assert_same(tmp_path / "out", whole)


def test_damaged_parts_are_made_again(samples, whole, tmp_path, monkeypatch):
    words = arguments(samples, tmp_path / "out")
    stop_before_writing(words, monkeypatch)
    for path in (tmp_path / "out" / ".resume").glob("*.part"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert run([*words, "--resume"]) == 0
    assert_same(tmp_path / "out", whole)


def test_without_resume_nothing_is_taken_over(samples, tmp_path):
    words = arguments(samples, tmp_path / "out", "--skip", "certify", "--skip", "diagnostics")
    folder = tmp_path / "out" / ".resume"
    folder.mkdir(parents=True)
    (folder / "left.part").write_bytes(b"of another run")
    assert run(words) == 0
    assert not folder.exists()


def test_stages_that_are_left_out_are_said_to_be(samples, tmp_path, capsys):
    policy = tmp_path / "policy.toml"
    policy.write_text("[require]\ncertified_accuracy = 0.1\n")
    skipped = [word for stage in ("certify", "effects") for word in ("--skip", stage)]
    out = tmp_path / "out"
    words = arguments(samples, out, *skipped, "--policy", str(policy), "--tolerance", "0.0001")
    assert run(words) == 0
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["certified"]["reason"] == "left out on request (--skip certify)"
    assert certificate["diagnostics"]["effects"] == []
    assert any("--skip effects" in text for text in certificate["warnings"])
    assert certificate["diagnostics"]["layers"] is not None
    assert certificate["verdict"]["word"] == "INCONCLUSIVE"
    assert "--skip certify --skip effects" in certificate["reproduce"]["command"]
    assert "skip=['certify', 'effects']" in certificate["reproduce"]["python"]
    capsys.readouterr()
    data = str(samples / "breast_cancer_mlp.toml")
    model = str(samples / "breast_cancer_mlp.onnx")
    code = run(["replay", str(out), "--model", model, "--data", data])
    assert code == 0, capsys.readouterr().out


def test_a_stage_that_is_none_is_named(samples, tmp_path, capsys):
    assert run(arguments(samples, tmp_path / "out", "--skip", "search")) == 2
    assert "search" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["effects", "layers", "certified"])
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory_costs_one_stage(samples, tmp_path, monkeypatch, what, error):
    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr(
        {
            "effects": "cimrobust.pipeline.derived_stages.add_effects",
            "layers": "cimrobust.diagnose.fragile_layers._attack",
            "certified": "cimrobust.certify.bound_summary._certified",
        }[what],
        fails,
    )
    assert run(arguments(samples, tmp_path / "out")) == 0
    certificate = certificate_of(tmp_path / "out")
    reason = {
        "effects": " ".join(certificate["warnings"]),
        "layers": certificate["diagnostics"]["layers_reason"],
        "certified": certificate["certified"]["reason"],
    }[what]
    assert "more memory than there is" in reason


def test_times_add_up_to_that_of_the_command(samples, whole):
    timings = json.loads((whole / "certificate.json").read_text())["timings"]
    assert sum(timings["stages"].values()) == pytest.approx(timings["total_seconds"], abs=0.01)
    assert {"load", "search", "writing"} <= set(timings["stages"])


def test_the_time_since_the_process_began_is_that_of_imports():
    code = "from cimrobust.pipeline.clock import Clock; print(Clock.of_process().stages['imports'])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 0.0 < float(done.stdout) < 60.0
