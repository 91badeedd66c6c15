"""Data functions of the user run in a process of their own, and never decide how a command ends."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cimrobust.data.load_dataset import load_data
from cimrobust.data.user_code import code_allowed, is_function, run_function
from cimrobust.errors import UsageError
from cimrobust.onnx_io.network import TensorSpec

ROW = (TensorSpec("row", "float32", ("n", 3)),)
GOOD = 'import numpy as np\ndef data():\n    return {"x": np.ones((2, 3), ">f8"), "y": [0, 1]}\n'


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write the body of a function into a module of the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(body: str) -> str:
        (tmp_path / "mine.py").write_text(
            body
            if "def " in body
            else f"import os, sys, threading, time\nimport numpy as np\ndef data():\n    {body}\n"
        )
        return "mine:data"

    return write


def test_arrays_come_back(module):
    found = run_function(module(GOOD))
    np.testing.assert_array_equal(found["x"], np.ones((2, 3)))
    assert (found["x"].dtype, found["y"].tolist()) == (np.float64, [0, 1])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("raise SystemExit(0)", "return arrays, got SystemExit: 0"),
        ("sys.exit()", "got SystemExit"),
        ("raise KeyboardInterrupt", "got KeyboardInterrupt"),
        ("raise GeneratorExit", "got GeneratorExit"),
        ("os._exit(0)", "got a process that ended with exit code 0 before it did"),
        ("os.abort()", "ended with signal 6"),
        ("os.kill(os.getpid(), 9)", "ended with signal 9"),
        ("raise ValueError('a\\nb')", "got ValueError: a b"),
        ("return [1, 2]", r'return a mapping such as {"x": ..., "y": ...}, got list'),
        ("return {}", "return a mapping"),
        (
            "return {'x': (i for i in iter(int, 1)), 'y': [0]}",
            r"return arrays of numbers, or text for labels, with a sample axis, got others",
        ),
        ("return {'x': [object()], 'y': [0]}", r"others for \['x'\]"),
        ("return {'x': np.float32(1), 'y': [0]}", r"others for \['x'\]"),
        (
            "return {'x': np.broadcast_to(np.float32(0), (10**9, 10**4)), 'y': [0]}",
            "fit into memory, got 40000000000008 bytes",
        ),
    ],
)
def test_functions_that_give_no_arrays_are_refused(module, body, text):
    with pytest.raises(UsageError, match=text) as caught:
        run_function(module(body))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["sys:exit", "os:abort", "builtins:quit", "mine:none", "none:data", "os.path:exists"]
)
def test_names_of_other_functions_are_refused(module, name):
    module(GOOD)
    with pytest.raises(UsageError, match="data function must"):
        run_function(name)


def test_what_is_no_name_of_a_function_is_refused():
    with pytest.raises(
        UsageError, match="data function must be named module:function, got 'a:b:c'"
    ):
        run_function("a:b:c")


def test_a_function_that_writes_into_the_pipe_gives_no_arrays(module):
    body = (
        "fds = [int(fd) for fd in os.listdir('/proc/self/fd') if int(fd) > 2]\n"
        "    [os.write(fd, b'\\xff' * 9) for fd in fds if os.path.exists(f'/proc/self/fd/{fd}')"
        " and 'pipe' in os.readlink(f'/proc/self/fd/{fd}')]"
    )
    with pytest.raises(UsageError, match="data function must return arrays, got a process that"):
        run_function(module(body))


def test_importing_may_not_end_the_command(module):
    module("raise SystemExit(0)\ndef data(): pass\n")
    with pytest.raises(
        UsageError, match="be importable as module:function, got 'mine:data': SystemExit"
    ):
        run_function("mine:data")


def test_what_a_function_prints_is_no_result(module, capfd):
    assert set(run_function(module("print('noise'); return {'x': [[1.0]], 'y': [0]}"))) == {
        "x",
        "y",
    }
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "noise\n")


def test_threads_that_are_left_behind_do_not_hold_the_command_up(module, monkeypatch):
    monkeypatch.setattr("cimrobust.data.user_code._SECONDS_TO_END", 0.2)
    body = (
        "threading.Thread(target=time.sleep, args=(100,)).start(); return {'x': [[1.0]], 'y': [0]}"
    )
    assert set(run_function(module(body))) == {"x", "y"}


def test_the_command_keeps_its_own_import_path(module):
    before = list(sys.path)
    run_function(module(GOOD))
    assert sys.path == before


@pytest.mark.parametrize("text", ["a:b", "a.b:c", "_a1:b2"])
def test_names_of_functions(text):
    assert is_function(text)


@pytest.mark.parametrize(
    "text", ["a", "a:", ":b", "a:b:c", "a b:c", "a/b:c", "http://x", "a.toml:b c", "..a:b", "C:\\x"]
)
def test_names_of_no_function(text):
    assert not is_function(text)


def test_a_description_may_name_code_only_with_the_leave_of_the_user(module, tmp_path):
    module(GOOD)
    (tmp_path / "d.toml").write_text('schema = 1\nfile = "mine:data"\n')
    with pytest.raises(
        UsageError,
        match=(
            r"must be allowed by the user where a file names it, got 'mine:data' \(.*d.toml\);"
            r" .*--allow-code"
        ),
    ):
        load_data(tmp_path / "d.toml", inputs=ROW)
    with code_allowed():
        assert load_data(tmp_path / "d.toml", inputs=ROW).inputs["row"].shape == (2, 3)
    with pytest.raises(UsageError, match="must be allowed"):
        load_data(tmp_path / "d.toml", inputs=ROW)


def test_the_function_finds_the_working_folder(module, tmp_path):
    (tmp_path / "value.txt").write_text("7")
    assert run_function(module("return {'x': [[float(open('value.txt').read())]], 'y': [0]}"))[
        "x"
    ].tolist() == [[7.0]]
    assert Path.cwd() == tmp_path
