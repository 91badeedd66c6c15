"""Results without a folder of the user's: their files live as long as the object."""

from __future__ import annotations

import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def folder_optional(function: Callable[P, ResultT]) -> Callable[P, ResultT]:
    """Let a function be called without ``out``.

    Its files are then in a private folder, which is removed with the result, or when Python ends.
    """

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        if kwargs.get("out") is not None:
            return function(*args, **kwargs)
        folder = Path(tempfile.mkdtemp(prefix="cimrobust-result-"))
        try:
            result = function(*args, **{**kwargs, "out": folder})  # type: ignore[arg-type]
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
        return result

    return called
