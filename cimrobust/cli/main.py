"""The `cimrobust` command: finds the subcommand, and turns every failure into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from cimrobust import __version__
from cimrobust.errors import CimrobustError

COMMANDS = {
    "demo": "The whole job on a sample network that is shipped with the package.",
    "inspect": "Show what maps to crossbars, what does not and why.",
    "analyze": "Find the worst chip and write the robustness certificate.",
    "sweep": "Worst chip, drawn chips and proof over write-verify tolerances; largest safe tolerance.",
    "retrain": "Train a network to withstand its devices, with certificates before and after.",
    "rare": "Estimate how likely a chip is that misses a score.",
    "verify": "Rank the devices that are worth verifying more tightly.",
    "suggest": "Find the layers that must stay digital, or be verified more tightly, to meet a policy.",
    "rewrite": "Write the model with its crossbar layers as nodes of their own.",
    "replay": "Re-derive a certificate's claims from its files.",
    "gate": "Pass or fail a certificate against a policy.",
    "devices": "List, show and check device profiles.",
    "report": "Write the HTML of a certificate again from its JSON.",
}

EXIT_INTERRUPTED = 130
EXIT_INTERNAL = 70


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it is run, so that help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands in the order in which a new user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one subcommand."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"cimrobust.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done or gate passed, 1 gate failed, 2 wrong usage, 3 gate inconclusive, 4 model not covered, "
    "5 input refused, 70 internal error or failed self-check, 130 interrupted (resumable).",
)
@click.version_option(__version__, prog_name="cimrobust")
def group() -> None:
    r"""What a neural network does on an imperfect analog chip, in the worst case.

    \b
    Examples:
      cimrobust demo
      cimrobust inspect model.onnx
      cimrobust analyze model.onnx --data data.toml --device rram-write-verify-3pct --out out
      cimrobust gate out --policy policy.toml
    """


def main() -> None:
    """Run the command line and exit with the code that the contract promises."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line.

    Args:
        arguments: What stands behind ``cimrobust``.

    Returns:
        The exit code. Nothing is raised: an unforeseen error prints one line, and its traceback if CIMROBUST_DEBUG is set.
    """
    try:
        result = group.main(arguments, prog_name="cimrobust", standalone_mode=False)
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
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last line of defence: users get a sentence, never a traceback
        if os.environ.get("CIMROBUST_DEBUG"):
            traceback.print_exc()
        text = " ".join(str(error).split())
        return _fail(f"internal error: {type(error).__name__}: {text}; set CIMROBUST_DEBUG=1 to see where", EXIT_INTERNAL)


def _fail(message: str, code: int) -> int:
    click.echo(" ".join(message.splitlines()), err=True)
    return code
