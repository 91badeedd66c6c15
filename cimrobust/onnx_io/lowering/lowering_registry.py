"""The table of lowerings by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

Lowering: TypeAlias = "Callable[[Job], None]"


@dataclass(frozen=True)
class Entry:
    """What is known of one operator.

    Attributes:
        operator: Full name, e.g. ``"com.microsoft::Gelu"``.
        make: Its lowering; None: it is refused.
        before: Standard operator set from which on the standard has the operator itself; 0: never.
        widens: Floating-point inputs of 16 bits are cast to float32 first, and its outputs back:
            what onnxruntime does for operators without an implementation in 16 bits.
        becomes: For the docs: the standard operators that take its place, or why it is refused.
    """

    operator: str
    make: Lowering | None
    before: int
    widens: bool
    becomes: str


_ENTRIES: dict[str, Entry] = {}

#: Every operator that is lowered or refused by name, by its full name. Filled when
#: `cimrobust.onnx_io.lowering.lowering_catalogue` is imported.
ENTRIES: Mapping[str, Entry] = MappingProxyType(_ENTRIES)


def lowers(*operators: str, before: int = 0, widens: bool = True) -> Callable[[Lowering], Lowering]:
    """Register a function as the lowering of operators.

    Args:
        operators: Full names; ``"LayerNormalization"`` without domain is the standard domain.
        before: Only in standard operator sets older than this; 0: in all.
        widens: Whether the lowering computes in float32 where the node computes in 16 bits; False
            for what moves elements alone.
    """

    def register(make: Lowering) -> Lowering:
        summary = (make.__doc__ or "").split("\n")[0]
        for operator in operators:
            _put(Entry(operator, make, before, widens, summary))
        return make

    return register


def refuses(*operators: str, why: str) -> None:
    """Register operators that cannot be handled, with the reason as it stands in the message."""
    for operator in operators:
        _put(Entry(operator, None, 0, False, why))


def _put(entry: Entry) -> None:
    assert entry.operator not in _ENTRIES, entry.operator
    _ENTRIES[entry.operator] = entry


def entry_of(operator: str, opset: int) -> Entry | None:
    """Return what is registered for an operator in a standard operator set, None if nothing."""
    entry = _ENTRIES.get(operator)
    return None if entry is None or (entry.before and opset >= entry.before) else entry


def is_lowered(operator: str, opset: int) -> bool:
    """Return whether an operator is known here, so that the ONNX standard need not know it."""
    return entry_of(operator, opset) is not None
