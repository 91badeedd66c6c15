"""Whether what a network takes fits into memory, asked before it is taken."""

from __future__ import annotations

from collections.abc import Sequence

from cimrobust.available_memory import available_memory, has_limit
from cimrobust.errors import ModelNotCoveredError
from cimrobust.printable_text import printable

#: What makes a network smaller, whatever it is too large for.
SMALLER = "export the model in 16 bits (float16 or bfloat16), or store its weights in fewer bits"

#: What to do about a network that is too large for a machine.
WAY_OUT = f"use a machine with more memory, {SMALLER}"


def require_memory(num_bytes: int, *, what: str, where: object, hint: str = WAY_OUT) -> None:
    """Raise ModelNotCoveredError unless so many bytes can be taken.

    Args:
        num_bytes: Most bytes that are held at one time.
        what: What they are for.
        where: The model file.
        hint: What to do where they are missing.
    """
    free = available_memory()
    if num_bytes > free:
        left = "are left of --memory" if has_limit() else "are free"
        raise ModelNotCoveredError(
            f"{what} must fit into memory, got {num_bytes} bytes that are needed and {free} that"
            f" {left} ({printable(where)}); {hint}"
        )


def require_room_for(sizes: Sequence[int], *, where: object) -> None:
    """Raise ModelNotCoveredError unless all tensors of a model fit into memory.

    The largest is there three times for a moment: as it is read, in the model, and as values.

    Args:
        sizes: Bytes of every tensor.
        where: The model file.
    """
    needed = sum(sizes) + 2 * max(sizes, default=0)
    require_memory(needed, what="tensors of the model", where=where)
