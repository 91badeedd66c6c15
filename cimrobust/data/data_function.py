"""The program that calls a data function.

Run as a script by `user_code.run_function`, in the process that the function may end.

It imports nothing of this package, so that what it runs finds the interpreter as a script of the
user's would.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

_RETURN = "return arrays"
_IMPORT = "be importable as module:function"


def main(argument: str) -> None:
    """Call the function and send its arrays.

    8 bytes length, a head in JSON, then the arrays one after the other.
    """
    given = json.loads(argument)
    os.set_inheritable(given["writer"], False)
    sys.path[:] = given["path"]
    sink = os.fdopen(given["writer"], "wb")
    with contextlib.suppress(BrokenPipeError, MemoryError):  # the other side says what is wrong
        try:
            _send(sink, _arrays(given["function"]))
        except _Problem as problem:
            _send_head(sink, {"problem": problem.text, "rule": problem.rule})
        sink.close()


class _Problem(Exception):  # noqa: N818  # a result, not an error of this program
    def __init__(self, rule: str, text: str) -> None:
        self.rule, self.text = rule, text[:10_000]


def _arrays(text: str) -> dict[str, Any]:
    module_name, _, function_name = text.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (
        BaseException
    ) as err:  # the user's code may fail in any way, and may try to end the process
        raise _Problem(_IMPORT, f"'{text}': {_shown(err)}") from err
    try:
        return _as_arrays(function())
    except _Problem:
        raise
    except BaseException as err:
        raise _Problem(_RETURN, _shown(err)) from err


def _as_arrays(returned: object) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415  # after sys.path was set

    if not isinstance(returned, Mapping) or not returned:
        raise _Problem('return a mapping such as {"x": ..., "y": ...}', type(returned).__name__)
    arrays = {str(name): np.asarray(value) for name, value in returned.items()}
    arrays = {
        name: array.astype(str) if _is_text(array) else array for name, array in arrays.items()
    }
    wrong = sorted(
        name for name, array in arrays.items() if array.dtype.kind not in "biufU" or array.ndim == 0
    )
    if wrong:
        raise _Problem(
            "return arrays of numbers, or text for labels, with a sample axis",
            f"others for {wrong}",
        )
    return arrays


def _is_text(array: Any) -> bool:
    return (
        array.dtype.kind == "O"
        and array.ndim > 0
        and all(isinstance(part, str) for part in array.flat)
    )


def _send(sink: BinaryIO, arrays: Mapping[str, Any]) -> None:
    import numpy as np  # noqa: PLC0415

    types = {name: array.dtype.newbyteorder("=") for name, array in arrays.items()}
    entries = [
        {"name": name, "shape": array.shape, "dtype": types[name].str}
        for name, array in arrays.items()
    ]
    _send_head(sink, {"problem": None, "arrays": entries})
    sink.flush()  # the other side may find them too large, and end this process
    for name, array in arrays.items():
        plain = np.ascontiguousarray(array, dtype=types[name])
        if plain.size:
            sink.write(plain.reshape(-1).view(np.uint8).data)


def _send_head(sink: BinaryIO, head: Mapping[str, Any]) -> None:
    content = json.dumps(head).encode()
    sink.write(len(content).to_bytes(8, "little") + content)


def _shown(err: BaseException) -> str:
    text = str(err)
    return f"{type(err).__name__}: {text}" if text else type(err).__name__


if __name__ == "__main__":
    main(sys.argv[1])
