"""Fused operators that onnxruntime's optimiser writes (domain com.microsoft)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from cimrobust.twin.ops.conv import conv
from cimrobust.twin.ops.converter_registry import MICROSOFT, Kernel, Node, operator
from cimrobust.twin.ops.matmul import fused_activation


@operator("FusedConv", domain=MICROSOFT)
def fused_conv(node: Node) -> Kernel:
    """FusedConv of com.microsoft: activation(Conv(x, w, b) + z)."""
    product = conv(node)
    first, second = [*(node.get("activation_params") or []), None, None][:2]
    activate = fused_activation(node.get("activation"), first, second)

    def run(
        x: Float[Tensor, "samples channels *positions"],
        w: Float[Tensor, "outputs inputs *taps"],
        bias: Float[Tensor, "outputs"] | None = None,
        z: Float[Tensor, "samples outputs *places"] | None = None,
    ) -> Float[Tensor, "samples outputs *places"]:
        y = product(x, w, bias)
        return activate(y if z is None else y + z)  # type: ignore[no-any-return]

    return run
