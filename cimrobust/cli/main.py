"""The `cimrobust` command.

Finds the subcommand, and turns every failure into one line and an exit code.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from cimrobust import __version__
from cimrobust.available_memory import is_about_memory
from cimrobust.cli.command_help import ExampleGroup, write_groups
from cimrobust.cli.project_file import project_file
from cimrobust.errors import EXIT_CODES, CimrobustError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Purpose of every command, in groups, in the order in which a new user meets them.
GROUPS = {
    "Start": {
        "demo": "The whole job on a sample network that is shipped with the package.",
        "init": "Write a data description for a model and a data file.",
        "inspect": (
            "Show what maps to crossbars, what does not and why, and how data are understood."
        ),
    },
    "Certify": {
        "analyze": "Find the worst chip and write the robustness certificate.",
        "plan": "Tell what an analysis will take, stage by stage, before it is run.",
        "sweep": (
            "Worst chip, drawn chips and proof over write-verify tolerances; largest safe"
            " tolerance."
        ),
        "rare": "Estimate how likely a chip is that misses a score.",
    },
    "Check": {
        "gate": "Pass or fail a certificate against a policy.",
        "replay": (
            "Derive the claims of a certificate, sweep or re-training again: files, numbers, chips,"
            " search."
        ),
        "compare": (
            "Two certificates side by side: what was equal, which numbers and requirements changed."
        ),
        "sign": "Sign a certificate and all files of its folder.",
        "verify-signature": "Say who signed a certificate, and whether it was changed since.",
        "bom": "Write a bill of materials (CycloneDX ML-BOM) of a certified network.",
        "report": "Write the page of a certificate, sweep or re-training again from its JSON.",
        "schema": "Print the JSON Schema of a result file.",
    },
    "Improve": {
        "retrain": "Train a network to withstand its devices, with certificates before and after.",
        "suggest": (
            "Find the layers that must stay digital, or be verified more tightly, to meet a policy."
        ),
        "verify": "Rank the devices that are worth verifying more tightly.",
    },
    "Models, devices, machine": {
        "devices": "List, show, check and fit device profiles.",
        "rewrite": "Write the model with its crossbar layers as nodes of their own.",
        "doctor": "Show what is installed, whether it works, and what will be slow.",
        "completion": "Print the script that completes commands and options in a shell.",
    },
}
COMMANDS = {name: purpose for commands in GROUPS.values() for name, purpose in commands.items()}

EXAMPLES = (
    "cimrobust demo",
    "cimrobust init model.onnx test.npz",
    "cimrobust inspect model.onnx --data data.toml",
    "cimrobust analyze model.onnx --data data.toml --device rram-write-verify-3pct --out out",
    "cimrobust gate out --policy policy.toml",
)

#: Environment variable by which the script of `cimrobust completion` asks for what may follow.
COMPLETE = "_CIMROBUST_COMPLETE"

EXIT_USAGE = 2
EXIT_REFUSED = 5
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

# What files, folders and disks answer, which is no fault of this program.
_SURROUNDINGS = frozenset(
    (
        errno.EACCES,
        errno.EDQUOT,
        errno.EEXIST,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.EMFILE,
        errno.ENAMETOOLONG,
        errno.ENFILE,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EPERM,
        errno.EROFS,
        errno.ESTALE,
        errno.ETXTBSY,
    )
)


class LazyGroup(ExampleGroup):
    """A group that imports a subcommand only when it is run, so that help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands in the order in which a new user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one subcommand."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(
            f"cimrobust.cli.{cmd_name.replace('-', '_')}_command"
        ).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete options and subcommands without importing any of them."""
        from click.shell_completion import CompletionItem

        return [
            *click.Command.shell_complete(self, ctx, incomplete),
            *(
                CompletionItem(name, help=purpose)
                for name, purpose in COMMANDS.items()
                if name.startswith(incomplete)
            ),
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the groups of subcommands without importing any of them."""
        write_groups(
            formatter, [(title, list(commands.items())) for title, commands in GROUPS.items()]
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then what exit codes mean."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])


@click.group(
    cls=LazyGroup, examples=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="cimrobust")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=(
        "Project defaults for options. Default: the nearest cimrobust.toml from this folder upwards"
        " within the repository."
    ),
)
@click.option("--no-config", is_flag=True, help="Use no project defaults.")
@click.pass_context
def group(context: click.Context, config: Path | None, no_config: bool) -> None:
    """What a neural network does on an imperfect analog chip, in the worst case."""
    found = config
    if config is None and not no_config:
        found = project_file(Path.cwd())
    if found is not None and context.invoked_subcommand is not None:
        _set_defaults(context, found, context.invoked_subcommand)


def _set_defaults(context: click.Context, path: Path, name: str) -> None:
    """Take the defaults of a command from a file, and say which."""
    from cimrobust.cli.project_defaults import read

    command = group.get_command(context, name)
    assert command is not None  # click has found it already
    defaults = read(path, COMMANDS).of(command, name)
    context.default_map = {name: defaults}
    if defaults:
        names = ", ".join(option.replace("_", "-") for option in defaults)
        click.echo(f"defaults from {path}: {names}", err=True)


def main() -> None:
    """Run the command line and exit with the code that the contract promises."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Treat a request to end as Ctrl-C: what is begun is cleared away, and can be resumed."""
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Run one command line.

    Args:
        arguments: What stands behind ``cimrobust``.

    Returns:
        The exit code. Nothing is raised: an unforeseen error prints one line, and its traceback if
        CIMROBUST_DEBUG is set.
    """
    if os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, "cimrobust", COMPLETE, os.environ[COMPLETE])
    if any("\0" in argument for argument in arguments):
        return _fail(
            "error: arguments must not hold a null byte, got one; no file has such a name",
            EXIT_USAGE,
        )
    try:
        result = group.main(arguments, prog_name="cimrobust", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written must be known before the exit code is
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CimrobustError as error:
        return _fail(f"error: {error}", error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; run the same command with --resume to go on", EXIT_INTERRUPTED)
    except SystemExit as stop:  # no library ends a command, and none makes it a success
        # Click and rich turn a broken pipe into an exit, and of click's nothing tells but the pipe.
        if isinstance(stop.__context__, BrokenPipeError) or _is_reader_gone():
            return _reader_left()
        return _fail(
            f"internal error: something ended the process with {stop.code!r}", EXIT_INTERNAL
        )
    except Exception as error:  # the last line of defence: users get a sentence, never a traceback
        return _unforeseen(error)


def _is_reader_gone() -> bool:
    """Return whether the standard output is a pipe that nobody reads any more."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in watched.poll(0))
    except (AttributeError, OSError, ValueError):  # closed, or no file at all
        return False


def _unforeseen(error: Exception) -> int:
    """Return the exit code of an error that no part of this package raised on purpose."""
    if isinstance(error, BrokenPipeError):
        return _reader_left()
    if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
        _drop_output()
        return _fail(f"error: {_place_problem(error)}", EXIT_USAGE)
    if is_about_memory(error):
        return _fail(f"error: {_memory_problem(error)}", EXIT_REFUSED)
    return _internal(error)


def _internal(error: Exception) -> int:
    if os.environ.get("CIMROBUST_DEBUG"):
        traceback.print_exc()
    return _fail(
        f"internal error: {type(error).__name__}: {error}; set CIMROBUST_DEBUG=1 to see where",
        EXIT_INTERNAL,
    )


def _reader_left() -> int:
    """End as other programs do whose output nobody reads to its end, as of ``| head``.

    Not with 0: a gate that says "failed" to nobody has not passed.
    """
    _drop_output()
    return EXIT_BROKEN_PIPE


def _drop_output() -> None:
    """Let what is still to be printed go nowhere.

    The interpreter then does not fail on it when it ends.
    """
    with contextlib.suppress(
        OSError, ValueError, AttributeError
    ):  # AttributeError: there is no stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _place_problem(error: OSError) -> str:
    name = f" ({error.filename})" if error.filename else ""
    return (
        f"files must be readable and the output folder writable, got '{error.strerror}'{name};"
        " check paths, permissions and free space"
    )


def _memory_problem(error: BaseException) -> str:
    return (
        f"model and data must fit into memory, got: {str(error) or type(error).__name__}; take"
        " fewer samples, or a larger machine"
    )


def _fail(message: str, code: int) -> int:
    """Say one line on stderr, without anything that a terminal would take for a command."""
    flat = " ".join(message.split())
    with contextlib.suppress(OSError):
        click.echo("".join(char if char.isprintable() else "?" for char in flat), err=True)
    return code
