"""The command line as a whole: help, exit codes, one-line errors."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import click
import pytest

from cimrobust.cli.main import COMMANDS, EXAMPLES, GROUPS, group, run
from cimrobust.errors import EXIT_CODES


def _commands(command=group, path=()):
    """Yield every command with the words that name it."""
    yield list(path), command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), (*path, name))


def test_help_lists_every_command(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name, capsys):
    assert run([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage:" in text
    assert re.search(r"^Examples?:\n  cimrobust ", text, re.MULTILINE)


def test_help_shows_commands_in_groups_and_examples_one_a_line(capsys):
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [title for title in GROUPS if f"{title}:" not in lines] == []
    start = lines.index("Examples:") + 1
    assert lines[start : start + len(EXAMPLES)] == [f"  {example}" for example in EXAMPLES]


def test_help_says_what_every_exit_code_means(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(
        re.search(rf"^  {code} +{meaning[:40]}", text, re.MULTILINE)
        for code, meaning in EXIT_CODES.items()
    )


@pytest.mark.parametrize(
    ("path", "example"),
    [(path, example) for path, command in _commands() for example in command.examples],
)
def test_every_example_can_be_given(path, example, capsys):
    words = shlex.split(example.partition(" > ")[0])
    command, name, *rest = group, *words
    assert words[1 : len(path) + 1] == path or not path
    while isinstance(command, click.Group) and rest:
        name, *rest = rest
        command = command.get_command(click.Context(command), name)
    command.make_context(name, rest)
    assert len(example) <= 100


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from cimrobust.cli.main import run; run(['--help']); heavy = {'torch', 'onnx',"
        " 'onnxruntime', 'numpy', 'matplotlib', 'scipy', 'rich', 'jinja2'} & set(sys.modules);"
        " sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["analyse"], 2, "analyse"),
        (["inspect"], 2, "MODEL"),
        (["inspect", "no-such-file.onnx"], 2, "no-such-file.onnx"),
        (
            ["inspect", "no-such-file.onnx", "--device", "rram-write-verfy-3pct"],
            2,
            "rram-write-verify-3pct",
        ),
        (
            ["analyze", "m.onnx", "--data", "d.toml", "--out", "o", "--tolerance", "7"],
            2,
            "tolerance",
        ),
        (["gate", "no-such-folder", "--policy", "p.toml"], 2, "p.toml"),
        (["devices", "show", "nothing"], 2, "nothing"),
    ],
)
def test_wrong_usage_is_one_clear_line(arguments, code, text, capsys):
    assert run(arguments) == code
    errors = capsys.readouterr().err
    assert text in errors
    assert "Traceback" not in errors


def test_unforeseen_errors_are_one_line(monkeypatch, capsys):
    def explode(*_, **__):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("cimrobust.cli.main.group.main", explode)
    assert run(["demo"]) == 70
    assert capsys.readouterr().err.count("\n") == 1


def test_interrupt_ends_with_130(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cimrobust.cli.main.group.main", interrupt)
    assert run(["demo"]) == 130
    assert "--resume" in capsys.readouterr().err
