"""`cimrobust.toml`: defaults of a project for options of the command line."""

from __future__ import annotations

import json

import pytest

from cimrobust.cli.main import group, run
from cimrobust.cli.project_file import project_file


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """Return what a command is called with in a folder that has a certain cimrobust.toml."""

    def call(text, arguments, folder=None):
        (tmp_path / "cimrobust.toml").write_text(text)
        monkeypatch.chdir(folder or tmp_path)
        given = {}
        command = group.get_command(None, arguments[0])
        monkeypatch.setattr(command, "callback", lambda **values: given.update(values))
        return run(arguments), given

    return call


def test_a_command_takes_its_own_before_shared_ones_and_the_line_before_both(taken, capsys):
    code, given = taken(
        '[defaults]\neffort = "quick"\nseed = 3\n[analyze]\nseed = 4\nstop-early = true\n',
        ["analyze", "m.onnx", "--data", "d", "--out", "o", "--effort", "thorough"],
    )
    assert code == 0
    assert (given["effort"], given["seed"], given["stop_early"]) == ("thorough", 4, True)
    assert "cimrobust.toml: effort, seed, stop-early" in capsys.readouterr().err


def test_options_beside_settings_may_be_shared(taken, capsys):
    code, given = taken(
        '[defaults]\nmemory = "6G"\nprogress = "none"\ntime-limit = 9\n',
        ["analyze", "m.onnx", "--data", "d", "--out", "o"],
    )
    assert (code, given["seed"]) == (0, 0)
    assert "memory, progress, time-limit" in capsys.readouterr().err


def test_what_a_command_cannot_do_without_may_stand_in_the_file(taken):
    code, given = taken('[analyze]\ndata = "d.npz"\nout = "o"\n', ["analyze", "m.onnx"])
    assert code == 0
    assert given["data"] == "d.npz"


def test_paths_are_relative_to_the_file(taken, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test.npz").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep").mkdir()
    code, given = taken(
        '[defaults]\ndata = "data/test.npz"\ndevice = "ideal"\n[analyze]\npolicy = "p.toml"\n',
        ["analyze", "m.onnx", "--out", "o"],
        folder=tmp_path / "deep",
    )
    assert code == 0
    assert given["data"] == str(tmp_path / "data/test.npz")
    assert given["device"] == "ideal"
    assert given["policy"] == tmp_path / "p.toml"


def test_lists_and_tables_are_given_as_on_the_line(taken):
    code, given = taken(
        '[sweep]\ntolerances = [0.01, 0.02]\ndigital = ["a", "b"]\n',
        ["sweep", "m.onnx", "--data", "d", "--out", "o"],
    )
    assert code == 0
    assert given["tolerances"] == (0.01, 0.02)
    assert given["digital"] == ("a", "b")
    code, given = taken(
        "[retrain.set]\nsigma = 0.05\n", ["retrain", "m.onnx", "--data", "d", "--out", "o"]
    )
    assert code == 0
    assert {"sigma": 0.05} in given.values()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[analyse]\nseed = 1\n", "got [analyse]"),
        ("analyze = 1\n", "must be a table of options, got analyze = 1"),
        ("[defaults]\nsede = 1\n", "got 'defaults.sede'"),
        ("[analyze]\nsede = 1\n", "the nearest known one is 'seed'"),
        ("[analyze]\nallow-code = true\n", "got 'analyze.allow-code'"),
        ("[defaults]\nresume = true\n", "got 'defaults.resume'"),
        (
            "[analyze]\ntrials = 0\n",
            "key must have a value that --trials takes, got 'analyze.trials' = 0",
        ),
        (
            "[analyze]\ntrials = true\n",
            "'analyze.trials' = True: true or false is for options that take no value",
        ),
        ("[analyze]\nstop-early = 'yes'\n", "'analyze.stop-early' = 'yes'"),
        ("[analyze]\neffort = 'much'\n", "'analyze.effort' = 'much'"),
        ("[analyze.seed]\nx = 1\n", "a table or a list of lists is no value of it"),
        ("[analyze", "project defaults must be TOML"),
    ],
)
def test_what_a_file_may_not_say_is_refused_with_its_place(taken, capsys, text, said):
    code, given = taken(text, ["analyze", "m.onnx", "--data", "d", "--out", "o"])
    assert (code, given) == (2, {})
    error = capsys.readouterr().err
    assert said in error
    assert "cimrobust.toml" in error


def test_no_config_and_another_file(taken, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("[analyze]\nseed = 9\n")
    line = ["m.onnx", "--data", "d", "--out", "o"]
    text = "[analyze]\nseed = 5\n"
    (tmp_path / "cimrobust.toml").write_text(text)
    code, given = taken(text, ["analyze", *line])
    assert (code, given["seed"]) == (0, 5)
    for option, seed in ((["--no-config"], 0), (["--config", str(other)], 9)):
        assert run([*option, "analyze", *line]) == 0
        assert given["seed"] == seed


def test_a_file_above_counts_within_a_repository_alone(tmp_path):
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    (tmp_path / "cimrobust.toml").touch()
    assert project_file(deep) is None
    (tmp_path / "a/.git").mkdir()
    assert project_file(deep) is None
    (tmp_path / ".git").mkdir()
    (tmp_path / "a/.git").rmdir()
    assert project_file(deep) == tmp_path / "cimrobust.toml"
    (deep / "cimrobust.toml").touch()
    assert project_file(deep) == deep / "cimrobust.toml"


def test_a_run_states_what_the_file_set(tmp_path, monkeypatch, samples):
    (tmp_path / "cimrobust.toml").write_text(
        f'[analyze]\ntrials = 3\nlimit = 4\neffort = "quick"\n'
        f'data = "{samples / "breast_cancer_mlp.toml"}"\n'
    )
    monkeypatch.chdir(tmp_path)
    assert run(["analyze", str(samples / "breast_cancer_mlp.onnx"), "--out", "out"]) == 0
    stated = json.loads((tmp_path / "out/certificate.json").read_text())["settings"]
    assert {"key": "trials", "value": 3, "is_default": False} in stated
