"""Shards of an analysis through the command line: one certificate, or a refusal that says why."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cimrobust.cli.main import run

DENSE = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[N, 6] x) => (float[N, 3] y) <float[6, 3] w> { y = MatMul(x, w) }
"""
TRIALS = 7


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a quick analysis of the smallest network."""
    folder = tmp_path_factory.mktemp("tiny")
    generator = np.random.default_rng(0)
    model = parser.parse_model(DENSE)
    del model.graph.initializer[:]
    weights = generator.normal(size=(6, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    onnx.save(model, folder / "tiny.onnx")
    x = generator.normal(size=(40, 6)).astype(np.float32)
    y = np.where(np.arange(40) % 9 == 0, 0, (x @ weights).argmax(axis=1))
    np.savez(folder / "tiny.npz", x=x, y=y)
    files = [str(folder / "tiny.onnx"), "--data", str(folder / "tiny.npz")]
    return ["analyze", *files, "--effort", "quick", "--workers", "1", "--tolerance", "0.1"]


@pytest.fixture(scope="module")
def drawn(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all three shards."""
    out = tmp_path_factory.mktemp("drawn")
    for number in (1, 2, 3):
        draw(command, out, f"{number}/3")
    return out


@pytest.fixture
def shards(drawn: Path, tmp_path: Path) -> Path:
    """Copy of the shards that a test may damage."""
    shutil.copytree(drawn, tmp_path / "shards")
    return tmp_path / "shards"


def draw(command: list[str], out: Path, shard: str, *more: str) -> None:
    arguments = [*command, "--trials", str(TRIALS), "--shard", shard, "--out", str(out), *more]
    assert run(arguments) == 0


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_times(part)
            for key, part in value.items()
            if key not in ("timings", "seconds")
        }
    return [without_times(part) for part in value] if isinstance(value, list) else value


def files_of(out: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a certificate that state no times."""
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if path.name not in ("certificate.json", "certificate.html", "manifest.json"):
            yield str(path.relative_to(out)), path.read_bytes()


def test_shards_give_the_certificate_of_one_run(
    command: list[str], drawn: Path, tmp_path: Path
) -> None:
    rest = [*command, "--trials", str(TRIALS), "--diagnostics", "none"]
    assert run([*rest, "--out", str(tmp_path / "one")]) == 0
    assert run([*rest, "--shards", str(drawn), "--out", str(tmp_path / "merged")]) == 0
    one, merged = (
        without_times(json.loads((tmp_path / name / "certificate.json").read_text()))
        for name in ("one", "merged")
    )
    assert merged == one
    assert dict(files_of(tmp_path / "merged")) == dict(files_of(tmp_path / "one"))
    assert "trials.parquet" in dict(files_of(tmp_path / "merged"))


def test_an_interrupted_shard_goes_on_and_an_extended_one_is_the_same(
    command: list[str], shards: Path, drawn: Path
) -> None:
    file = shards / "shard-2-of-3" / "trials"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    (shards / "shard-2-of-3" / "shard.json").unlink()
    draw(command, shards, "2/3", "--resume")
    assert file.read_bytes() == whole
    manifest = "shard-2-of-3/shard.json"
    assert (shards / manifest).read_bytes() == (drawn / manifest).read_bytes()


def merge(command: list[str], shards: Path, *more: str, trials: int = TRIALS) -> int:
    out = shards.parent / "out"
    arguments = [*command, "--trials", str(trials), "--shards", str(shards), "--out", str(out)]
    code = run([*arguments, *more])
    assert not (out / "certificate.json").exists()
    return code


def remove(number: int) -> Callable[[Path], object]:
    return lambda shards: shutil.rmtree(shards / f"shard-{number}-of-3")


def unfinished(shards: Path) -> None:
    (shards / "shard-1-of-3" / "shard.json").unlink()


def doubled(shards: Path) -> None:
    shutil.copytree(shards / "shard-1-of-3", shards / "shard-1-of-3-copy")


def other_division(shards: Path) -> None:
    manifest = shards / "shard-1-of-3" / "shard.json"
    manifest.write_text(manifest.read_text().replace('"of": 3', '"of": 2'))


def flipped(shards: Path) -> None:
    file = shards / "shard-3-of-3" / "trials"
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(bytes(content))


def fewer(shards: Path) -> None:
    """A file of trials that somebody shortened, and stated in its manifest."""
    file, manifest = (shards / "shard-3-of-3" / name for name in ("trials", "shard.json"))
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    old, new = (hashlib.sha256(content).hexdigest() for content in (whole, file.read_bytes()))
    manifest.write_text(manifest.read_text().replace(old, new))


def emptied(shards: Path) -> None:
    for manifest in shards.glob("*/shard.json"):
        manifest.unlink()


def broken_manifest(shards: Path) -> None:
    (shards / "shard-3-of-3" / "shard.json").write_text("{")


def other_version(shards: Path) -> None:
    manifest = shards / "shard-3-of-3" / "shard.json"
    manifest.write_text(manifest.read_text().replace('s": "cimrobust ', 's": "cimrobust 0.'))


@pytest.mark.parametrize(
    ("damage", "code", "message"),
    [
        (remove(2), 2, "all 3 shards must be there and finished, got none of 2/3"),
        (unfinished, 2, "got none of 1/3"),
        (doubled, 2, "got shard-1-of-3 and shard-1-of-3-copy with the same trials"),
        (
            other_division,
            2,
            "shards must be of one division of one run, got 2 shards of 7 trials, 3",
        ),
        (flipped, 5, "the file is damaged"),
        (fewer, 5, "shard must hold trials 4 to 6, got 1 of them missing, the first 6"),
        (shutil.rmtree, 2, "folder of shards must be readable, got No such file"),
        (emptied, 2, "folder of shards must hold finished ones, got none"),
        (broken_manifest, 5, "manifest of a shard must be"),
        (other_version, 2, "shard must be of this run, got one that differs in versions"),
    ],
)
def test_shards_that_are_not_whole_are_refused(
    command: list[str],
    shards: Path,
    damage: Callable[[Path], object],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(shards)
    assert merge(command, shards) == code
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "1"], "differs in seed (0, here 1)"),
        (["--limit", "9"], "differs in samples or labels"),
        (["--tolerance", "0.2"], "differs in devices"),
    ],
)
def test_shards_of_another_run_are_refused(
    command: list[str],
    drawn: Path,
    tmp_path: Path,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    arguments = [*command, "--trials", str(TRIALS), "--shards", str(drawn), "--out", out, *more]
    assert run(arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_another_model_is_refused(
    command: list[str], shards: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [str(samples / "breast_cancer_mlp.onnx"), "--data"]
    other += [str(samples / "breast_cancer_mlp.toml"), *command[4:], "--limit", "9"]
    assert merge([command[0], *other], shards) == 2
    assert "differs in model" in " ".join(capsys.readouterr().err.split())


def test_other_numbers_of_trials_are_refused(
    command: list[str], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert merge(command, shards, trials=8) == 2
    assert "got 7 trials where this run has 8" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b"])
def test_a_shard_that_is_none_is_refused(
    command: list[str], tmp_path: Path, shard: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--trials", str(TRIALS), "--shard", shard, "--out", str(tmp_path)]
    assert run([*command, *arguments]) == 2
    assert "shard must be I/N with I from 1 to N, got" in capsys.readouterr().err
    assert not list(tmp_path.glob("shard-*"))


def test_more_shards_than_trials_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--trials", str(TRIALS), "--shard", "8/9", "--out", str(tmp_path)]) == 2
    message = "number of shards must be at most the number of trials, got 9 shards of 7 trials"
    assert message in capsys.readouterr().err


def test_shards_of_a_run_that_may_stop_early_stop_where_it_stops(
    command: list[str], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[require.kpp]]\nk = 20\nconfidence = 0.9\naccuracy = 0.3\n")
    early = [*command, "--stop-early", "--policy", str(policy), "--trials", "60"]
    early += ["--diagnostics", "none"]
    for number in (1, 2):
        arguments = [*early, "--shard", f"{number}/2", "--out", str(tmp_path / "shards")]
        assert run(arguments) == 0
    assert run([*early, "--out", str(tmp_path / "one")]) == 0
    merged = ["--shards", str(tmp_path / "shards"), "--out", str(tmp_path / "merged")]
    assert run([*early, *merged]) == 0
    tables = [(tmp_path / name / "trials.parquet").read_bytes() for name in ("one", "merged")]
    assert tables[0] == tables[1]
    record = json.loads((tmp_path / "one" / "certificate.json").read_text())
    assert record["monte_carlo"]["trials"] < 60
