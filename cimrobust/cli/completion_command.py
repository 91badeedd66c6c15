"""`cimrobust completion`: commands and options that a shell completes."""

from __future__ import annotations

import click

from cimrobust.cli.command_help import ExampleCommand

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=ExampleCommand,
    examples=(
        "cimrobust completion bash > ~/.cimrobust-completion.bash",
        "cimrobust completion zsh > ~/.cimrobust-completion.zsh",
        "cimrobust completion fish > ~/.config/fish/completions/cimrobust.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that lets a shell complete commands, options and files.

    Write it to a file, and let ~/.bashrc or ~/.zshrc source that.
    """
    from click.shell_completion import get_completion_class

    from cimrobust.cli.main import COMPLETE, group

    made = get_completion_class(shell)
    assert made is not None  # one of click's own
    click.echo(made(group, {}, "cimrobust", COMPLETE).source())
