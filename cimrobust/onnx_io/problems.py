"""One clear message for everything that is wrong with a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cimrobust.errors import InputRefusedError, ModelNotCoveredError
from cimrobust.onnx_io.size_limits import MAX_PROBLEMS_SHOWN
from cimrobust.printable_text import printable


def join_problems(problems: Sequence[str]) -> str:
    """Join problems to one line; long lists are cut, and say by how much."""
    unique = list(dict.fromkeys(printable(problem) for problem in problems))
    shown = "; ".join(unique[:MAX_PROBLEMS_SHOWN])
    hidden = len(unique) - MAX_PROBLEMS_SHOWN
    return f"{shown}; and {hidden} more" if hidden > 0 else shown


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise InputRefusedError with all problems of a file; do nothing when there are none."""
    if problems:
        raise InputRefusedError(
            f"model file must be a sound ONNX network, got: {join_problems(problems)}"
            f" ({printable(path)}); export or copy the model again"
        )


def not_covered(path: Path, problems: Sequence[str]) -> None:
    """Raise ModelNotCoveredError with all reasons; do nothing when there are none."""
    if problems:
        raise ModelNotCoveredError(
            f"model must use what this version covers, got: {join_problems(problems)}"
            f" ({printable(path)}); export the model with standard ONNX operators and tensor inputs"
        )
