"""`cimrobust completion`: what shells are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cimrobust.cli.main import COMMANDS, run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_the_command_and_its_variable(shell, capsys):
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_CIMROBUST_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize(
    ("words", "place", "expected"),
    [
        ("cimrobust ", 1, list(COMMANDS)),
        ("cimrobust ana", 1, ["analyze"]),
        ("cimrobust analyze --eff", 2, ["--effort"]),
        ("cimrobust analyze --effort ", 3, ["quick", "standard", "thorough"]),
    ],
)
def test_words_are_completed(monkeypatch, capsys, words, place, expected):
    monkeypatch.setenv("_CIMROBUST_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(place))
    assert run([]) == 0
    offered = [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]
    assert [word for word in offered if not word.startswith("--") or place == 2] == expected


def test_commands_are_completed_without_importing_them():
    code = (
        "import os, sys; os.environ.update(_CIMROBUST_COMPLETE='bash_complete',"
        " COMP_WORDS='cimrobust a', COMP_CWORD='1');"
        "from cimrobust.cli.main import run; code = run([]);"
        "sys.exit(code or any('_command' in name or name == 'numpy' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
