"""What a converter sees of a node, and the table of converters by operator and opset version.

A converter reads the attributes of a node once and returns a kernel: a function of the node's input
tensors. Inputs that the node leaves out arrive as None, or not at all at the end of the list.

How values are held: floating-point tensors of any ONNX type have the twin's working type; int32,
int64 and bool are themselves (int64 of shapes on the CPU), unsigned 32 and 64 bit are int64;
quantised values (8 and 16 bit, and the int32 sums of integer products) may be floating-point
tensors that hold integers, so that gradients pass from QuantizeLinear to DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import Tensor

from cimrobust.errors import CimrobustError

Value: TypeAlias = Shaped[Tensor, "..."] | list[Shaped[Tensor, "..."]] | None
Kernel: TypeAlias = Callable[..., Any]
Converter: TypeAlias = "Callable[[Node], Kernel]"

NEWEST = 10_000


class CannotConvertError(CimrobustError):
    """One node has no torch form; the message is the reason."""


@runtime_checkable
class Body(Protocol):
    """Compiled body of a control-flow node."""

    num_inputs: int
    num_outputs: int

    def run(self, inputs: list[Value], captured: tuple[Value, ...]) -> list[Value]:
        """Execute the body; `captured` are the values of `Node.captures`."""


@dataclass
class Settings:
    """What the kernels of a twin share and may change between runs.

    Attributes:
        straight_through: Round, Floor, Ceil, Sign and comparisons pass gradients through.
        softened: Rounding and quantisers are left out, forward and backward, and saturated
            activations leak gradients.
        width: Width of the Gaussian that stands for the derivative of a hard step, in standard
            deviations of what is compared; None: the usual straight-through gradient. What is
            computed stays the same.
        steps: Where hard steps list themselves, each with the standard deviation of what it
            compares, in steps (of Sign and comparisons, which have one step, 0); None: they do not.
        dtype: Working floating-point type.
        device: Where new tensors are made that are not shape values.
    """

    straight_through: bool = False
    softened: bool = False
    width: float | None = None
    steps: list[float] | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Node:
    """A node as its converter sees it.

    Attributes:
        name: Name in the graph.
        op: Operator.
        domain: Domain, "" for the standard one.
        version: Opset version of the domain that the model imports.
        attributes: Values as Python numbers, strings, lists and tensors; bodies as `Body`.
        inputs: Names of the inputs, "" where left out.
        outputs: Names of the outputs, "" where unwanted.
        input_types: ONNX element type of each input, None where unknown.
        captures: Names that bodies of this node read from the graphs around it; their values follow
            the inputs in a kernel call.
        settings: Shared by all kernels of the twin.
        readers: Who reads the outputs: operator and input, such as ``Where 0``; empty: not known.
    """

    name: str
    op: str
    domain: str
    version: int
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_types: tuple[int | None, ...]
    captures: tuple[str, ...]
    settings: Settings
    readers: frozenset[str] = frozenset()

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` where the node does not state it."""
        return self.attributes.get(name, default)

    def wants(self, index: int) -> bool:
        """Return whether the output at `index` is used by name."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def has(self, index: int) -> bool:
        """Return whether the input at `index` is given."""
        return index < len(self.inputs) and bool(self.inputs[index])


@dataclass(frozen=True)
class _Entry:
    since: int
    until: int
    convert: Converter


_TABLE: dict[tuple[str, str], list[_Entry]] = {}
MICROSOFT = "com.microsoft"


def operator(
    *names: str, domain: str = "", since: int = 1, until: int = NEWEST
) -> Callable[[Converter], Converter]:
    """Register a converter for operators of a domain, for opset versions `since` to `until`."""

    def register(convert: Converter) -> Converter:
        for name in names:
            _TABLE.setdefault((domain, name), []).append(_Entry(since, until, convert))
        return convert

    return register


def plain(
    name: str, kernel: Kernel, *, domain: str = "", since: int = 1, until: int = NEWEST
) -> None:
    """Register an operator without attributes whose kernel is a torch function."""
    operator(name, domain=domain, since=since, until=until)(lambda _node: kernel)


def find(domain: str, op: str, version: int) -> Converter | None:
    """Return the converter of an operator at an opset version, None where there is none."""
    for entry in _TABLE.get((domain, op), ()):
        if entry.since <= version <= entry.until:
            return entry.convert
    return None


def registered() -> tuple[tuple[str, str], ...]:
    """Return (domain, operator) of everything registered, sorted."""
    return tuple(sorted(_TABLE))
