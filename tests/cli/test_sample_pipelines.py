"""The pipelines of samples/pipelines: what runners of their kind read, and shell steps that run.

Steps are taken out of the files and run as the runners do: GitHub `bash -eo pipefail`, GitLab all
lines in one such shell, Jenkins `sh -xe`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ROOT / "samples" / "pipelines"
LAX = "[require]\nkpp = { k = 5, accuracy = 0.5 }\n"
STRICT = "[require]\nworst_found_accuracy = 1\n"
OPEN = "[require]\nkpp = { k = 0.0001, accuracy = 0.5 }\n"
VERDICTS = {LAX: 0, STRICT: 1, OPEN: 3}
_INPUT = re.compile(r"\$\{\{ inputs\.([\w-]+) \}\}")


def parsed(name: str) -> Any:
    return YAML(typ="safe", pure=True).load(PIPELINES / name)


@pytest.fixture(scope="session")
def workspace(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a network and few data."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("breast_cancer_mlp.onnx", "breast_cancer_mlp.toml", "breast_cancer_test.npz"):
        shutil.copy(samples / name, folder)
    data = folder / "breast_cancer_mlp.toml"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(line for line in lines if not line.startswith("train_file")))
    arrays = np.load(folder / "breast_cancer_test.npz")
    np.savez(folder / "breast_cancer_test.npz", **{name: arrays[name][:40] for name in arrays})
    return folder


@pytest.fixture
def checkout(workspace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(workspace, tmp_path / "a checkout"))


def environment(checkout: Path, **more: str) -> dict[str, str]:
    """Return the variables of a runner: the installed command is on its path."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **kept,
        "PATH": path,
        "PWD": str(checkout),
        "MODEL": "breast_cancer_mlp.onnx",
        "DATA": "breast_cancer_mlp.toml",
        "POLICY": "policy.toml",
        "DEVICE": "rram-write-verify-3pct",
        "EFFORT": "quick",
        **more,
    }


def executed(shell: list[str], script: str, folder: Path, variables: Mapping[str, str]) -> int:
    file = folder.parent / "step.sh"
    file.write_text(script)
    done = subprocess.run(
        [*shell, str(file)],
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "error" not in done.stderr, done.stderr
    return done.returncode


def check_reports(checkout: Path, code: int) -> None:
    reports = checkout / "gate-reports"
    log = json.loads((reports / "gate.sarif").read_text())
    assert bool(log["runs"][0]["results"]) is (code != 0)
    assert ElementTree.parse(reports / "gate.xml").getroot().find(".//testcase") is not None
    assert (reports / "gate.md").read_text().startswith("## cimrobust gate: ")
    assert (checkout / "certificate" / "certificate.json").exists()


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("github-actions", "action.yml"),
        ("github-workflows", "github_workflow.yml"),
        ("gitlab-ci", "gitlab_ci.yml"),
    ],
)
def test_a_file_follows_the_schema_of_its_runner(schema: str, name: str) -> None:
    check = ["check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run(
        [sys.executable, "-m", *check, str(PIPELINES / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_hands_the_action_what_it_asks_for() -> None:
    action, workflow = parsed("action.yml"), parsed("github_workflow.yml")
    (job,) = workflow["jobs"].values()
    (call,) = [step for step in job["steps"] if "cimrobust-gate" in step.get("uses", "")]
    required = {name for name, value in action["inputs"].items() if value.get("required")}
    assert required <= set(call["with"]) <= set(action["inputs"])
    assert job["permissions"]["security-events"] == "write"
    reports = action["inputs"]["reports"]["default"]
    (upload,) = [step for step in job["steps"] if "upload-sarif" in step.get("uses", "")]
    assert upload["with"]["sarif_file"] == f"{reports}/gate.sarif"
    assert upload["if"].startswith("always()")


def test_no_input_is_pasted_into_a_script() -> None:
    for step in parsed("action.yml")["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"


def test_steps_of_the_action(checkout: Path) -> None:
    (checkout / "policy.toml").write_text(LAX)
    action = parsed("action.yml")
    given = {name: value.get("default", "") for name, value in action["inputs"].items()}
    given |= {"model": "breast_cancer_mlp.onnx", "data": "breast_cancer_mlp.toml"}
    given |= {"policy": "policy.toml", "effort": "quick"}
    certify, gate = action["runs"]["steps"]
    assert step_of_github(certify, checkout, given) == 0
    for policy, code in VERDICTS.items():
        (checkout / "policy.toml").write_text(policy)
        outputs, summary = (checkout.parent / f"{name}{code}" for name in ("out", "summary"))
        files = {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary)}
        assert step_of_github(gate, checkout, given, **files) == code
        check_reports(checkout, code)
        assert summary.read_text().count("## cimrobust gate: ") == 1
        written = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
        assert set(written) == set(action["outputs"])
        assert written["exit-code"] == str(code)
        assert len(written["certificate-sha256"]) == 64


def step_of_github(
    step: Mapping[str, Any], checkout: Path, given: Mapping[str, str], **files: str
) -> int:
    stated = {
        name: _INPUT.sub(lambda found: given[found[1]], value)
        for name, value in step["env"].items()
    }
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail"]
    return executed(shell, step["run"], checkout, environment(checkout) | files | stated)


def test_script_of_gitlab(checkout: Path) -> None:
    (checkout / "policy.toml").write_text(STRICT)
    (job,) = parsed("gitlab_ci.yml").values()
    assert job["artifacts"]["reports"]["junit"] == "gate-reports/gate.xml"
    assert job["artifacts"]["when"] == "always"
    assert job["before_script"] == ['python -m pip install "$CIMROBUST"']
    script = "\n".join(["set -eo pipefail", *job["script"]])
    code = executed(["bash"], script, checkout, job["variables"] | environment(checkout))
    assert code == 1
    check_reports(checkout, code)


def test_steps_of_jenkins(checkout: Path) -> None:
    (checkout / "policy.toml").write_text(LAX)
    text = (PIPELINES / "Jenkinsfile").read_text()
    assert text.count("{") == text.count("}")
    assert "junit testResults: 'gate-reports/gate.xml'" in text.partition("post {")[2]
    stated = set(re.findall(r"^ +([A-Z]+) = '", text, re.MULTILINE))
    scripts = re.findall(r"sh '''\n(.*?)'''", text, re.DOTALL)
    assert len(scripts) == len(re.findall(r"\bsh '", text)) == 2
    assert set(re.findall(r"\$([A-Z]+)", text)) == stated
    # Groovy takes a backslash before a line break for the join of both lines.
    scripts = [script.replace("\\\n", "") for script in scripts]
    codes = [executed(["sh", "-xe"], script, checkout, environment(checkout)) for script in scripts]
    assert codes == [0, 0]
    check_reports(checkout, codes[-1])
