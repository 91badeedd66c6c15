"""The examples of the docs run, and print what the docs show.

A ``console`` block is a session: lines that begin with ``$ `` are run, in order, in a folder with a
small network and its
data; the lines below one are its output, in which ``...`` stands for any lines, and numbers may
differ from machine to
machine. A command has to end with 0, unless ``$ echo $?`` behind it says otherwise. ``python``
blocks run too. Blocks of other
kinds (``sh``, ``text``, ``toml``) do not.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cimrobust.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
#: Has Python with a test of its own (tests/unit/search/test_device_witness.py).
OTHERS = ("device-level.md",)
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "tutorial.md",
    *(page for page in sorted((ROOT / "docs" / "how-to").glob("*.md")) if page.name not in OTHERS),
]
POLICY = (
    "[require]\nclean_accuracy = 0.95\nworst_found_accuracy = 0.90\nkpp = { k = 1, confidence ="
    " 0.95, accuracy = 0.90 }\n"
)
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


def _blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if _blocks(page)], ids=lambda page: page.stem
)
def test_examples_run(page: Path, tmp_path, monkeypatch, capsys):
    blocks = _blocks(page)
    said = "".join(text for _, text in blocks)
    _fill(
        tmp_path,
        with_description="cimrobust init" not in said,
        with_policy=re.search(r"cimrobust init .*--policy", said) is None,
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, str(page), "exec"), names)
            continue
        code = 0
        for command, expected, checked in _session(text):
            if command == "echo $?":
                assert expected == [str(code)]
                continue
            code = _run(command)
            said = capsys.readouterr()
            assert code == 0 or checked, f"{command}: exit code {code}\n{said.err}"
            _compare(said.out, expected, command)


def _fill(folder: Path, *, with_description: bool, with_policy: bool) -> None:
    """Put into a folder what the examples take as given."""
    for name, source in {
        "model.onnx": "breast_cancer_mlp.onnx",
        "test.npz": "breast_cancer_test.npz",
    }.items():
        (folder / name).write_bytes((SAMPLES / source).read_bytes())
    if with_description:
        described = (SAMPLES / "breast_cancer_mlp.toml").read_text(encoding="utf-8")
        lines = [line for line in described.splitlines() if not line.startswith("train_file")]
        (folder / "data.toml").write_text(
            "\n".join(lines).replace("breast_cancer_test.npz", "test.npz"), encoding="utf-8"
        )
    if with_policy:
        (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    rng = np.random.default_rng(1)
    rows = [
        f"{target},{target + rng.normal(0.0, 0.5):.4f}"
        for target in (1.0, 17.0, 33.0, 50.0)
        for _ in range(50)
    ]
    (folder / "measurements.csv").write_text(
        "target,measured\n" + "\n".join(rows) + "\n", encoding="utf-8"
    )


def _session(text: str) -> Iterator[tuple[str, list[str], bool]]:
    """Yield every command with the output shown, and whether its exit code is looked at behind it."""  # noqa: E501
    parts: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            parts.append((line[2:], []))
        elif line.strip():
            parts[-1][1].append(line)
    for index, (command, expected) in enumerate(parts):
        yield command, expected, index + 1 < len(parts) and parts[index + 1][0] == "echo $?"


def _run(command: str) -> int:
    """Run one command of this package in this process."""
    words = shlex.split(command, comments=True)
    assert words[0] == "cimrobust", (
        f"examples must be commands of this package, got '{command}'; use a block of kind sh"
    )
    if ">" not in words:
        return run(words[1:])
    with Path(words[-1]).open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        return run(words[1:-2])


def _compare(output: str, expected: list[str], command: str) -> None:
    """Check that the lines shown are among those printed, in their order, numbers aside."""
    left = iter([_shape(line) for line in output.splitlines()])
    for line in expected:
        if line.strip() != "...":
            assert _shape(line) in left, f"'{command}' must print '{line}', got\n{output}"


def _shape(line: str) -> str:
    return " ".join(_NUMBER.sub("#", line).split())


def test_pages_with_examples_are_found():
    assert sum(len(_blocks(page)) for page in PAGES) >= 10
