"""Tensors by name from safetensors files that somebody else wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load

from cimrobust.available_memory import available_memory
from cimrobust.errors import InputRefusedError
from cimrobust.input_file import FileKind, open_input, printable, read_whole, refusing_what_fails

if TYPE_CHECKING:
    from cimrobust.array_shapes import Shaped

_MAX_BYTES = 32 * 2**30
_HINT = "take the file from where it was made"


def read_tensors(path: Path, *, what: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Read all tensors of a file.

    Args:
        path: The file.
        what: What messages call it, e.g. ``"witness"``.

    Raises:
        InputRefusedError: It is missing, no safetensors file, or does not fit into memory.
    """
    return read_described_tensors(path, what=what)[0]


def read_described_tensors(
    path: Path, *, what: str
) -> tuple[dict[str, Shaped[np.ndarray, "..."]], dict[str, Any]]:
    """Read all tensors of a file and its description, texts by name; raises as `read_tensors`."""
    kind = FileKind(what, _MAX_BYTES, missing=InputRefusedError, hint=_HINT)
    with open_input(path, kind) as stream:
        size = stream.seek(0, 2)
        if 3 * size > available_memory():  # the content, its tensors and what is derived from them
            raise InputRefusedError(
                f"{what} must fit into memory, got {size} bytes ({printable(path)}); use a larger"
                " machine"
            )
        stream.seek(0)
        content = read_whole(stream, path, kind)
    with refusing_what_fails(f"{what} must be a safetensors file", path, hint=_HINT):
        tensors: dict[str, Shaped[np.ndarray, "..."]] = load(content)
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return tensors, dict(head.get("__metadata__") or {})
