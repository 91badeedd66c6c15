"""The hook of pre-commit: certificates of a repository are gated when a file of theirs changes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cimrobust.cli.gate_hook import certificate_folders, hook

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / ".pre-commit-hooks.yaml"
LAX = "[require]\nkpp = { k = 20, accuracy = 0.5 }\n"


def hooked(*arguments: str) -> int:
    return hook.main(list(arguments), standalone_mode=False)


def test_files_lead_to_the_folders_of_their_certificates(tmp_path: Path) -> None:
    for name in ("a/certificate.json", "b/c/certificate.json", "b/c/witness/worst_case.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = [
        tmp_path / "b/c/witness/worst_case.onnx",
        tmp_path / "a/certificate.json",
        tmp_path / "b/c/certificate.json",
        tmp_path / "else/witness/x",
    ]
    assert certificate_folders(files) == [tmp_path / "b/c", tmp_path / "a"]


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("certificate.json", True),
        ("nets/out/witness/worst_case.onnx", True),
        ("nets/trials.parquet", True),
        ("nets/my_certificate.json", False),
        ("model.onnx", False),
    ],
)
def test_files_that_the_hook_is_for(name: str, fits: bool) -> None:
    (entry,) = YAML(typ="safe", pure=True).load(MANIFEST)
    assert bool(re.search(entry["files"], name)) is fits
    assert entry["entry"] == "cimrobust-gate-hook"


def test_codes_are_those_of_the_gate(small_certificate: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(LAX)
    good, forged = small_certificate / "certificate.json", tmp_path / "forged"
    shutil.copytree(small_certificate, forged)
    (forged / "witness" / "worst_case.onnx").unlink()
    assert hooked("--policy", str(policy), str(good)) == 0
    assert hooked("--policy", str(policy), str(forged / "certificate.json"), str(good)) == 6
    policy.write_text("[require]\nworst_found_accuracy = 1.5\n")
    assert hooked("--policy", str(policy), str(good)) == 1
    assert hooked("--policy", str(policy)) == 0


def test_pre_commit_runs_the_hook(small_certificate: Path, tmp_path: Path) -> None:
    """As for a user, but for the place of the hook's repository, which is a local one."""
    hooks, work = tmp_path / "hooks", tmp_path / "work"
    hooks.mkdir()
    shutil.copy(MANIFEST, hooks)
    work.mkdir()
    shutil.copytree(small_certificate, work / "nets" / "out")
    (work / "policy.toml").write_text("[require]\nworst_found_accuracy = 1.5\n")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(tmp_path / "home"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    if shutil.which("cimrobust-gate-hook", path=environment["PATH"]) is None:
        pytest.skip("the installed package is older than its command cimrobust-gate-hook")

    def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    for folder in (hooks, work):
        run(folder, "git", "init", "-q")
        run(folder, "git", "add", "-A")
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        run(folder, "git", *who, "commit", "-q", "-m", "x")
    head = run(hooks, "git", "rev-parse", "HEAD").stdout.strip()
    (work / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {hooks}\n  rev: {head}\n  hooks:\n  - id: cimrobust-gate\n"
    )
    command = (sys.executable, "-m", "pre_commit", "run", "--all-files")
    run(work, "git", "add", "-A")
    failed = run(work, *command)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "verdict: FAIL" in failed.stdout
    assert "nets/out:" in failed.stdout
    (work / "policy.toml").write_text(LAX)
    run(work, "git", "add", "-A")
    passed = run(work, *command)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "Passed" in passed.stdout
