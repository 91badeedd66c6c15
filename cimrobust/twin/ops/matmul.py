"""Matrix products."""

from __future__ import annotations

import torch
from jaxtyping import Real
from torch import Tensor

from cimrobust.twin.ops.activation_ops import by_name
from cimrobust.twin.ops.converter_registry import (
    MICROSOFT,
    CannotConvertError,
    Kernel,
    Node,
    operator,
)


@operator("Gemm")
def gemm(node: Node) -> Kernel:
    """Gemm: alpha A' B' + beta C; C may be left out from opset 11 on."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    flip_a, flip_b = node.get("transA", 0), node.get("transB", 0)

    def run(
        a: Real[Tensor, "_rows _columns"],
        b: Real[Tensor, "_rows _columns"],
        c: Real[Tensor, "..."] | None = None,
    ) -> Real[Tensor, "rows columns"]:
        a, b = a.t() if flip_a else a, b.t() if flip_b else b
        if c is not None and c.is_floating_point():
            return torch.addmm(c, a, b, beta=beta, alpha=alpha)
        y = a @ b if alpha == 1.0 else alpha * (a @ b)
        return y if c is None else y + beta * c

    return run


@operator("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(node: Node) -> Kernel:
    """FusedMatMul of com.microsoft: scaled product with transposed operands."""
    if node.get("transBatchA", 0) or node.get("transBatchB", 0):
        raise CannotConvertError("transBatchA and transBatchB are not covered")
    alpha, flip_a, flip_b = node.get("alpha", 1.0), node.get("transA", 0), node.get("transB", 0)

    def run(a: Real[Tensor, "..."], b: Real[Tensor, "..."]) -> Real[Tensor, "..."]:
        a = a.transpose(-1, -2) if flip_a and a.dim() > 1 else a
        b = b.transpose(-1, -2) if flip_b and b.dim() > 1 else b
        y = torch.matmul(a, b)
        return y if alpha == 1.0 else alpha * y

    return run


@operator("FusedGemm", domain=MICROSOFT)
def fused_gemm(node: Node) -> Kernel:
    """FusedGemm of com.microsoft: Gemm and an activation."""
    product = gemm(node)
    activate = fused_activation(
        node.get("activation"), node.get("activation_alpha"), node.get("activation_beta")
    )
    return lambda a, b, c=None: activate(product(a, b, c))


def fused_activation(name: str | None, alpha: float | None, beta: float | None) -> Kernel:
    """Return the activation a fused operator names.

    Raises:
        CannotConvertError: It is not known.
    """
    if not name:
        return lambda x: x
    try:
        return by_name(name, alpha, beta)
    except KeyError:
        raise CannotConvertError(f"activation {name!r} is not covered") from None
