"""Progress off a terminal, with a clock that the test moves."""

from __future__ import annotations

import json
import threading

import click
import pytest
from click.testing import CliRunner

from cimrobust.certificate.models.printed_progress import ProgressOutput
from cimrobust.cli.main import group, run
from cimrobust.cli.options import PROGRESS_KINDS, progress_option
from cimrobust.cli.shown_progress import TerminalProgress, shown_progress
from cimrobust.cli.timed_progress import TimedProgress, as_line, tell_json
from cimrobust.progress import Progress


class Told:
    """What was told, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[ProgressOutput] = []
        self.progress = TimedProgress(self.events.append, clock=lambda: self.now)

    @property
    def lines(self) -> list[str]:
        return [as_line(event) for event in self.events]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_stage_is_told_when_it_begins_and_when_it_ends(told):
    told.now += 5
    told.progress.start("trials", 3)
    told.now += 1
    told.progress.advance(3, "0.9 lowest")
    told.progress.finish()
    told.progress.finish()
    assert told.lines == [
        "[0:00:05] trials: begins, 3 steps",
        "[0:00:06] trials: ended, 3 of 3 (0.9 lowest)",
    ]


def test_a_stage_that_begins_ends_the_one_before(told):
    told.progress.start("first", 2)
    told.progress.advance()
    told.progress.start("second", 1)
    assert [(event.event, event.stage, event.done) for event in told.events] == [
        ("begin", "first", 0),
        ("end", "first", 1),
        ("begin", "second", 0),
    ]


def test_a_running_stage_is_told_once_a_minute(told):
    told.progress.start("search", 100)
    for _ in range(12):
        told.now += 10
        told.progress.advance()
    assert told.lines[1:] == [
        "[0:01:00] search: 6 of 100, about 0:15:40 left",
        "[0:02:00] search: 12 of 100, about 0:14:40 left",
    ]


def test_a_stage_whose_first_step_takes_long_is_told_of(told):
    told.progress.start("certifying", 4)
    told.now += 59.9
    told.progress.look()
    told.now += 0.1
    told.progress.look()
    assert told.lines[1:] == ["[0:01:00] certifying: 0 of 4"]
    assert told.events[-1].seconds_left is None


def test_one_step_does_not_tell_how_long_the_others_take(told):
    told.progress.start("loading", 3)
    told.now += 20
    told.progress.advance()
    told.now += 40
    told.progress.look()
    told.now += 60
    told.progress.advance()
    assert told.lines[1:] == ["[0:01:00] loading: 1 of 3", "[0:02:00] loading: 2 of 3"]


def test_steps_of_an_earlier_run_do_not_shorten_what_is_left(told):
    told.progress.start("trials", 300)
    told.progress.advance(200, "resumed")
    told.now += 60
    told.progress.advance(10)
    assert told.lines[-1] == "[0:01:00] trials: 210 of 300, about 0:09:00 left (resumed)"


def test_names_from_files_cannot_forge_lines(told):
    told.progress.start("layer\n[0:00:00] done\x1b[2J", 1)
    assert told.lines == ["[0:00:00] layer [0:00:00] done?[2J: begins, 1 step"]


def test_what_cannot_be_told_does_not_end_the_work():
    def full(_said: ProgressOutput) -> None:
        raise OSError(28, "No space left on device")

    progress = TimedProgress(full, clock=lambda: 0.0)
    progress.start("trials", 1)
    progress.advance()
    progress.finish()


def test_the_thread_ends_with_the_work():
    before = threading.active_count()
    with TimedProgress(lambda _said: None) as progress:
        assert isinstance(progress, Progress)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_stage_that_fails_is_not_told_to_have_ended(told):
    def fail() -> None:
        with told.progress:
            told.progress.start("trials", 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [event.event for event in told.events] == ["begin"]


@click.command()
@progress_option
def work() -> None:
    with shown_progress() as progress:
        progress.start("trials", 2)
        progress.advance(2)
        progress.finish()
        if isinstance(progress, TerminalProgress):
            click.echo("a bar", err=True)
    click.echo("result")


def ran(*arguments: str, default: str | None = None):
    found = CliRunner().invoke(work, arguments, env={"CIMROBUST_PROGRESS": default})
    assert (found.exit_code, found.stdout) == (0, "result\n")
    return found.stderr


def test_off_a_terminal_lines_are_printed():
    lines = [line.partition("] ")[2] for line in ran().splitlines()]
    assert lines == ["trials: begins, 2 steps", "trials: ended, 2 of 2"]
    assert ran() == ran("--progress", "lines")


def test_json_lines_follow_the_model():
    events = [
        ProgressOutput.model_validate_json(line) for line in ran("--progress", "json").split()
    ]
    assert [(event.event, event.done) for event in events] == [("begin", 0), ("end", 2)]


def test_nothing_and_bars_are_chosen_by_name():
    assert ran("--progress", "none") == ""
    assert "a bar" in ran("--progress", "bar")


def test_the_environment_says_the_default():
    assert ran(default="none") == ""
    assert json.loads(ran("--progress", "json", default="none").splitlines()[0])
    wrong = CliRunner().invoke(work, [], env={"CIMROBUST_PROGRESS": "loud"})
    assert wrong.exit_code == 2
    assert all(kind in wrong.stderr for kind in PROGRESS_KINDS)


@pytest.mark.parametrize(
    "name", ["demo", "analyze", "sweep", "rare", "retrain", "suggest", "verify", "replay"]
)
def test_long_commands_take_the_option(name):
    command = group.get_command(click.Context(group), name)
    assert "--progress" in {flag for option in command.params for flag in option.opts}


def test_a_command_says_where_it_is_before_it_fails(tmp_path, capsys):
    missing = str(tmp_path / "m.onnx")
    arguments = ["analyze", missing, "--data", "d.npz", "--out", str(tmp_path / "out")]
    assert run([*arguments, "--progress", "json"]) == 2
    said = capsys.readouterr()
    begun, failed = said.err.splitlines()
    assert ProgressOutput.model_validate_json(begun).stage == "Loading and checking"
    assert failed.startswith("error: model")
    assert said.out == ""


def test_json_is_one_line_an_event(capsys, told):
    told.progress.start("trials", 2)
    tell_json(told.events[0])
    assert capsys.readouterr().err == (
        '{"event":"begin","time":0.0,"stage":"trials","done":0,"total":2,"seconds_left":null,'
        '"note":""}\n'
    )
