"""Files by which a runner holds a network against a policy, made of those of samples/pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from cimrobust.shipped_samples import sample_folder

Runner = Literal["github", "gitlab", "jenkins"]

#: File in which a runner looks for its steps, and the sample that it is made of.
PLACES: dict[Runner, dict[str, str]] = {
    "github": {
        ".github/workflows/robustness.yml": "github_workflow.yml",
        ".github/actions/cimrobust-gate/action.yml": "action.yml",
    },
    "gitlab": {".gitlab-ci.yml": "gitlab_ci.yml"},
    "jenkins": {"Jenkinsfile": "Jenkinsfile"},
}
# Names of files that the samples have.
_MODEL, _DATA, _POLICY = "model.onnx", "data.toml", "policy.toml"


def pipeline_files(
    runner: Runner, folder: Path, *, model: Path, data: Path, policy: Path
) -> dict[Path, str]:
    """Return the files of a pipeline and their contents.

    Args:
        runner: What runs it.
        folder: Root of the repository. Files of the network inside of it are named from there.
        model: The network.
        data: Its data description.
        policy: The policy.
    """
    names = {
        _MODEL: _stated(model, folder),
        _DATA: _stated(data, folder),
        _POLICY: _stated(policy, folder),
    }
    samples = sample_folder() / "pipelines"
    return {
        folder / place: _filled(
            (samples / sample).read_text(encoding="utf-8"),
            names,
            in_quotes=runner == "jenkins",
        )
        for place, sample in PLACES[runner].items()
    }


def _stated(path: Path, folder: Path) -> str:
    whole = path.absolute()
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)


def _filled(text: str, names: dict[str, str], *, in_quotes: bool) -> str:
    """Put names in the places of those of the samples, as values of YAML or texts of Groovy."""
    for name, given in names.items():
        if in_quotes:
            escaped = given.replace("\\", "\\\\").replace("'", "\\'")
            text = text.replace(f"= '{name}'", f"= '{escaped}'")
        elif given != name:
            # A text of JSON is one of YAML, whatever stands in it.
            text = text.replace(f": {name}\n", f": {json.dumps(given)}\n")
    return text
