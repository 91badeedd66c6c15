"""The commands, with every option."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from cimrobust.cli.main import GROUPS, group
from generator.markdown import table


def page() -> str:
    """Return the page of commands."""
    parts = ["# Commands\n", "`cimrobust COMMAND --help` says the same on the terminal.\n"]
    context = click.Context(group, info_name="cimrobust")
    for title, commands in GROUPS.items():
        parts.append(f"## {title}\n")
        for name in commands:
            command = group.get_command(context, name)
            assert command is not None
            parts += _command(command, f"cimrobust {name}")
    return "\n".join(parts)


def _command(command: click.Command, path: str) -> Iterator[str]:
    yield f"### `{path}`\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            part = command.get_command(context, name)
            assert part is not None
            yield from _command(part, f"{path} {name}")
        return
    words = [
        _metavar(parameter) for parameter in command.params if isinstance(parameter, click.Argument)
    ]
    yield f"```sh\n{' '.join((path, '[OPTIONS]', *words))}\n```\n"
    options = [option for option in command.params if isinstance(option, click.Option)]
    yield table(("option", "default", "meaning"), map(_row, options))
    yield "".join(f"    {example}\n" for example in command.examples)


def _row(option: click.Option) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{_metavar(option)}`"
    several = " (several)" if option.multiple else ""
    return names + value + several, _default(option), option.help or ""


def _metavar(parameter: click.Parameter) -> str:
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter, click.Argument):
        name = (parameter.name or "").upper()
        return name if parameter.required else f"[{name}]"
    if isinstance(parameter.type, click.Choice):
        return "|".join(map(str, parameter.type.choices))
    if isinstance(parameter.type, click.IntRange):
        return "INTEGER"
    return {"text": "TEXT", "float": "NUMBER", "integer": "INTEGER"}.get(
        parameter.type.name, parameter.type.name.upper()
    )


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    if option.is_flag:
        return (
            "off"
            if not option.secondary_opts
            else f"`{option.opts[0] if option.default else option.secondary_opts[0]}`"
        )
    return f"`{option.default}`" if option.show_default else ""
