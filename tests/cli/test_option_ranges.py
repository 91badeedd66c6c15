"""Every option with a range or choices refuses what is outside, and names itself."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from cimrobust.cli.main import group, run
from cimrobust.cli.setting_options import Numbers

Words = tuple[str, ...]


def options(
    command: click.Command = group, path: Words = ()
) -> Iterator[tuple[Words, click.Option]]:
    """Yield the options of every command, with the words that name it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from options(found, (*path, name))
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag:
            yield path, option


def outside(kind: click.ParamType) -> Iterator[str]:
    """Yield texts that are no value of a type."""
    if isinstance(kind, click.Choice):
        yield "no-such-choice"
    elif isinstance(kind, click.IntRange):
        yield "some"
        yield "1.5"
        if kind.min is not None:
            yield str(int(kind.min) - 1)
        if kind.max is not None:
            yield str(int(kind.max) + 1)
    elif isinstance(kind, click.types.FloatParamType):
        yield from ("some", "nan", "inf", "-inf")
        # Which others are too small is checked where they are used.
        if hasattr(kind, "is_open"):
            yield from ("-0.001", "1.001")
            if kind.is_open:
                yield "0"
    elif isinstance(kind, Numbers):
        yield "0.1,some"


REFUSED = [
    (path, option.opts[0], value)
    for path, option in options()
    for value in outside(option.type)
    if option.opts[0].startswith("--")
]


def test_numbers_have_a_range() -> None:
    without = {
        f"{' '.join(path)} {option.opts[0]}"
        for path, option in options()
        if isinstance(option.type, click.types.IntParamType)
        and not (isinstance(option.type, click.IntRange) and option.type.max is not None)
    }
    assert without == set()


@pytest.mark.parametrize(
    ("path", "name", "value"),
    REFUSED,
    ids=[f"{' '.join(path)} {name} {value}" for path, name, value in REFUSED],
)
def test_an_option_refuses_what_is_outside_of_it(
    path: Words, name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--no-config", *path, f"{name}={value}"]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert "Traceback" not in said
    assert value in said or "one of" in said
