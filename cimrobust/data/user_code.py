"""Data functions of the user, run in a process of their own.

Nothing in them decides how a command ends. They may exit, print, leave threads behind or bring the
interpreter down: what counts is whether arrays came back.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from cimrobust.available_memory import available_memory
from cimrobust.data import data_function
from cimrobust.errors import UsageError
from cimrobust.input_file import printable

_MAX_HEAD = 2**20
_SECONDS_TO_END = 10.0
_HINT = "run it by itself to see where"

_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


def is_function(text: str) -> bool:
    """Return whether a name reads ``module:function``.

    Two names of Python, the first one dotted where it is in a package.
    """
    module, colon, function = text.partition(":")
    return (
        bool(colon)
        and function.isidentifier()
        and all(part.isidentifier() for part in module.split("."))
    )


@contextlib.contextmanager
def code_allowed(allowed: bool = True) -> Iterator[None]:
    """Let files name code that is run, inside a ``with`` statement: what ``--allow-code`` does."""
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def is_code_allowed() -> bool:
    """Tell whether files may name code that is run, here and now."""
    return _allowed.get()


def require_code_allowed(text: str, where: object) -> None:
    """Raise UsageError where a file names code and the user has not said that it may.

    Args:
        text: The code, ``module:function``.
        where: The file that names it.
    """
    if not _allowed.get():
        raise UsageError(
            f"code must be allowed by the user where a file names it, got '{printable(text)}'"
            f" ({printable(where)}); read it, then give --allow-code"
        )


def run_function(text: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Call ``module:function`` in a process of its own, and return its arrays by name.

    Its output goes to stderr, its input is empty. Ctrl-C ends both processes.

    Raises:
        UsageError: It cannot be imported, fails, ends the process, or returns something else than a
            mapping of arrays.
    """
    if not is_function(text):
        raise UsageError(
            f"data function must be named module:function, got '{printable(text)}' (--data); see"
            " the README"
        )
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source:
        try:
            process = _start(text, writer)
        finally:
            os.close(writer)
        try:
            arrays = _receive(source, text)
            process.wait(_SECONDS_TO_END)  # it may still be tidying up
        except (EOFError, ValueError, KeyError, TypeError) as err:
            code = _end(process)
            raise UsageError(
                f"data function must return arrays, got a process that ended with {_ending(code)}"
                f" before it did ({text}); {_HINT}"
            ) from err
        except subprocess.TimeoutExpired:
            pass  # a thread that was left behind; the arrays are here
        finally:
            process.kill()
            process.wait()
    return arrays


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that has said all it will say, and end it where it does not end.

    Return its exit code.
    """
    try:
        return process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _start(text: str, writer: int) -> subprocess.Popen[bytes]:
    arguments = {
        "function": text,
        "path": ["", *(entry for entry in sys.path if entry)],
        "writer": writer,
    }
    command = [sys.executable, str(Path(data_function.__file__)), json.dumps(arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=(writer,))


def _receive(source: BufferedReader, text: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Return what the function's process sends.

    Raises EOFError or ValueError where it stops or sends something else.
    """
    size = int.from_bytes(_exactly(source, 8), "little")
    if size > _MAX_HEAD:
        raise EOFError
    head: dict[str, Any] = json.loads(_exactly(source, size))
    if head["problem"] is not None:
        raise UsageError(
            f"data function must {head['rule']}, got {printable(head['problem'])[:500]} ({text});"
            f" {_HINT}"
        )
    entries = [
        (str(entry["name"]), tuple(entry["shape"]), np.dtype(entry["dtype"]))
        for entry in head["arrays"]
    ]
    total = sum(dtype.itemsize * math.prod(shape) for _, shape, dtype in entries)
    if total > available_memory():
        raise UsageError(
            f"data function must return arrays that fit into memory, got {total} bytes ({text});"
            " return fewer samples"
        )
    return {name: _array(source, shape, dtype) for name, shape, dtype in entries}


def _array(
    source: BufferedReader, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Shaped[np.ndarray, "..."]:
    array = np.empty(math.prod(shape), dtype=dtype)
    content = array.view(np.uint8).data if array.size else memoryview(b"")
    filled = 0
    while filled < len(content):
        count = source.readinto(content[filled:])
        if not count:
            raise EOFError
        filled += count
    return array.reshape(shape)


def _exactly(source: BufferedReader, size: int) -> bytes:
    content = source.read(size)
    if len(content) != size:
        raise EOFError
    return content


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
