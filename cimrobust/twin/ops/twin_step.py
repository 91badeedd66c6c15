"""One step of a twin, and the error of a step that fails on its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cimrobust.errors import CimrobustError

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node


class TwinRunError(CimrobustError):
    """A node of the twin failed on the values it was given; `node` is its name."""

    def __init__(self, message: str, node: str = "") -> None:
        self.node = node
        super().__init__(message)


@dataclass(frozen=True)
class Step:
    """One node ready to run: the kernel and the slots of its inputs and outputs."""

    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    node: Node
