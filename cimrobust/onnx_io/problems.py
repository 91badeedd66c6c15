"""One clear message for everything that is wrong with a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cimrobust.errors import InputRefusedError, ModelNotCoveredError
from cimrobust.input_file import printable
from cimrobust.onnx_io.size_limits import MAX_PROBLEMS_SHOWN


def one_line(text: object) -> str:
    """Return text without line breaks and control characters.

    A file thus cannot forge lines of output.
    """
    return printable(text)


def join_problems(problems: Sequence[str]) -> str:
    """Join problems to one line; long lists are cut, and say by how much."""
    unique = list(dict.fromkeys(one_line(problem) for problem in problems))
    shown = "; ".join(unique[:MAX_PROBLEMS_SHOWN])
    hidden = len(unique) - MAX_PROBLEMS_SHOWN
    return f"{shown}; and {hidden} more" if hidden > 0 else shown


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise InputRefusedError with all problems of a file; do nothing when there are none."""
    if problems:
        raise InputRefusedError(
            f"model file must be a sound ONNX network, got: {join_problems(problems)}"
            f" ({one_line(path)}); export or copy the model again"
        )


def not_covered(path: Path, problems: Sequence[str]) -> None:
    """Raise ModelNotCoveredError with all reasons; do nothing when there are none."""
    if problems:
        raise ModelNotCoveredError(
            f"model must use what this version covers, got: {join_problems(problems)}"
            f" ({one_line(path)}); export the model with standard ONNX operators and tensor inputs"
        )
