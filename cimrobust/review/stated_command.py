"""The command that a result states."""

from __future__ import annotations

import shlex
from itertools import pairwise

from cimrobust.errors import InputRefusedError


def named_arguments(command: str) -> dict[str, str]:
    """Return the values of the options of the command that a certificate states.

    Args:
        command: A command line.

    Raises:
        InputRefusedError: It is none.
    """
    try:
        words = shlex.split(command)
    except ValueError as err:
        raise InputRefusedError(
            f"reproduction command must be a command line, got {err} (reproduce.command); do not"
            " trust it"
        ) from err
    return {option: value for option, value in pairwise(words) if option.startswith("--")}
