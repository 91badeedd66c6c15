"""Element types and shapes of arrays for annotations, for modules that short commands import.

Those of jaxtyping where somebody looks at them: type checkers, and the test run that checks every
shape (``CIMROBUST_CHECK_SHAPES``). Elsewhere annotations are text that nobody reads, and jaxtyping
takes longer to import than what is annotated takes to run.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or os.environ.get("CIMROBUST_CHECK_SHAPES"):
    from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64, Real, Shaped, UInt8
else:

    class _Unread:
        def __class_getitem__(cls, described: tuple[Any, str]) -> Any:
            """Return the type of the array."""
            return described[0]

    Bool = Float = Float32 = Float64 = Int32 = Int64 = Real = Shaped = UInt8 = _Unread

__all__ = ["Bool", "Float", "Float32", "Float64", "Int32", "Int64", "Real", "Shaped", "UInt8"]
