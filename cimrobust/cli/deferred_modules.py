"""Modules that libraries import and hardly anybody uses, loaded when one of their names is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

#: SciPy copies all names of NumPy, and so imports its Fortran compiler's front end, its tests and
#: its older arrays; ONNX and pyarrow import what writes models as text and pickles functions.
RARELY_USED = frozenset(
    (
        "cloudpickle",
        "google.protobuf.json_format",
        "google.protobuf.text_format",
        "numpy.char",
        "numpy.ctypeslib",
        "numpy.f2py",
        "numpy.ma",
        "numpy.polynomial",
        "numpy.random",
        "numpy.testing",
        "onnx.compose",
        "onnx.gen_proto",
        "pydoc",
    )
)


@contextmanager
def deferred() -> Iterator[None]:
    """Load modules of `RARELY_USED` that are imported inside when a name of theirs is asked for.

    They are found and named as always, by the lazy loader of the standard library: who uses one,
    inside or later, gets it. For commands of one thread, since before Python 3.12.4 two threads
    must not ask for the first name of one module at once.
    """
    finder = _DeferringFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _DeferringFinder:
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of `RARELY_USED` where Python would; None for any other."""
        if name not in RARELY_USED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
