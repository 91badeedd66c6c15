"""Operators that onnx2torch converts.

They hold no state, and give the same outputs and gradients, bit for bit, as what they took the
place of. `tests/benchmarks/converter_sources.py` holds all others against ours and says why they
are not here.
"""

from __future__ import annotations

from jaxtyping import Shaped
from torch import Tensor

from cimrobust.twin.ops.converter_registry import CannotConvertError, Kernel, Node, operator
from cimrobust.twin.ops.library import has_torchvision, kernel_of, taken
from cimrobust.twin.ops.torch_tensors import index_of, together


def joined(function: Kernel) -> Kernel:
    """Return a function of two tensors that may be on different devices.

    That is rare, and asking before every call costs as much as a small addition.
    """

    def run(a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        try:
            return function(a, b)  # type: ignore[no-any-return]
        except RuntimeError:
            if a.device == b.device:
                raise
        return function(*together((a, b)))  # type: ignore[no-any-return]

    return run


def gathered(function: Kernel) -> Kernel:
    """Return a function of any number of tensors that may be on different devices."""
    return lambda *values: function(*together(values))


def indexed(function: Kernel) -> Kernel:
    """Return a function of a tensor and indices, which may be of any type and on any device."""
    return lambda x, indices: function(x, index_of(indices, x))


ELEMENTWISE = (
    *("Abs", "Acos", "Asin", "Atan", "Cos", "Erf", "Exp", "Log"),
    *("Neg", "Reciprocal", "Sin", "Sqrt", "Tan"),
)
ACTIVATIONS = (
    *("Celu", "Elu", "HardSwish", "LeakyRelu", "LogSoftmax", "Relu", "Softmax", "Softsign"),
)
PRODUCTS = ("Einsum", "MatMul")
MOVES = ("Tile", "Transpose")
BINARY = (
    *("Add", "Div", "Mul", "Sub", "And", "Or", "Xor"),
    "Equal",
)
SEVERAL = ("Concat",)
#: Standard operators whose nodes onnx2torch converts, RoiAlign apart.
TAKEN = frozenset(
    {*ELEMENTWISE, *ACTIVATIONS, *PRODUCTS, *MOVES, *BINARY, *SEVERAL, "Gather", "Mod"}
)

taken(*ELEMENTWISE, *ACTIVATIONS, *PRODUCTS, *MOVES)
# Before opset 7 these broadcast by attribute, which is not covered.
taken(*BINARY, since=7, wrap=joined)
taken("Mod", since=10, wrap=joined)
taken(*SEVERAL, wrap=gathered)
taken("Gather", wrap=indexed)


@operator("RoiAlign", since=10)
def roi_align(node: Node) -> Kernel:
    """RoiAlign-10, which onnx2torch leaves to torchvision."""
    if not has_torchvision():
        raise CannotConvertError("it needs a torchvision that fits the installed torch")
    return kernel_of(node)
