"""Activation functions that onnx2torch lacks, or has without what the twin needs of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Real
from torch import Tensor

from cimrobust.twin.ops.converter_registry import MICROSOFT, Kernel, Node, operator, plain
from cimrobust.twin.ops.surrogate import leaking
from cimrobust.twin.ops.torch_tensors import on_device_of

plain("Mish", F.mish)


def _saturating(
    function: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]], node: Node
) -> Kernel:
    settings = node.settings

    def run(x: Real[Tensor, "*shape"]) -> Real[Tensor, "*shape"]:
        return leaking(function(x), x) if settings.softened else function(x)

    return run


operator("Sigmoid")(lambda node: _saturating(torch.sigmoid, node))
operator("Tanh")(lambda node: _saturating(torch.tanh, node))


@operator("Softplus")
def softplus(node: Node) -> Kernel:
    """Softplus: log(1 + exp(x)); torch's own turns into the identity above 20."""
    return lambda x: torch.logaddexp(x, torch.zeros((), dtype=x.dtype, device=x.device))


@operator("Selu")
def selu(node: Node) -> Kernel:
    """Selu; the defaults are those of the paper, any others are possible."""
    alpha, gamma = (
        node.get("alpha", 1.67326319217681884765625),
        node.get("gamma", 1.05070102214813232421875),
    )
    return lambda x: gamma * F.elu(x, alpha)


@operator("ThresholdedRelu")
def thresholded_relu(node: Node) -> Kernel:
    """ThresholdedRelu: x where x > alpha, else 0."""
    alpha = node.get("alpha", 1.0)
    return lambda x: F.threshold(x, alpha, 0.0)


@operator("HardSigmoid")
def hard_sigmoid(node: Node) -> Kernel:
    """HardSigmoid."""
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return _saturating(lambda x: (alpha * x + beta).clamp(0.0, 1.0), node)


@operator("Shrink")
def shrink(node: Node) -> Kernel:
    """Shrink: soft or hard threshold."""
    bias, lambd = node.get("bias", 0.0), node.get("lambd", 0.5)

    def run(x: Real[Tensor, "*shape"]) -> Real[Tensor, "*shape"]:
        return torch.where(
            x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x))
        )

    return run


@operator("PRelu")
def prelu(node: Node) -> Kernel:
    """PRelu; the slope broadcasts to the input."""

    def run(x: Real[Tensor, "*shape"], slope: Real[Tensor, "..."]) -> Real[Tensor, "*shape"]:
        return torch.where(x < 0, x * on_device_of(slope, x), x)

    return run


@operator("Gelu")
def gelu(node: Node) -> Kernel:
    """Gelu-20, exact or by tanh."""
    approximate = node.get("approximate", "none")
    return lambda x: F.gelu(x, approximate=approximate)


@operator("Swish")
def swish(node: Node) -> Kernel:
    """Swish-24: x sigmoid(alpha x)."""
    alpha = node.get("alpha", 1.0)
    return lambda x: x * torch.sigmoid(alpha * x)


@operator("Hardmax")
def hardmax(node: Node) -> Kernel:
    """Hardmax: one at the first maximum; over all axes from `axis` on before opset 13."""
    coerced = node.version < 13
    axis = node.get("axis", 1 if coerced else -1)

    def one_hot(x: Real[Tensor, "*shape"], dim: int) -> Real[Tensor, "*shape"]:
        first = x.argmax(dim, keepdim=True)
        return torch.zeros_like(x).scatter(dim, first, 1.0)

    def run(x: Real[Tensor, "*shape"]) -> Real[Tensor, "*shape"]:
        return (
            one_hot(x.flatten(axis % x.dim()), -1).reshape(x.shape) if coerced else one_hot(x, axis)
        )

    return run


plain("Gelu", F.gelu, domain=MICROSOFT)


@operator("QuickGelu", domain=MICROSOFT)
def quick_gelu(node: Node) -> Kernel:
    """QuickGelu of com.microsoft: x sigmoid(alpha x)."""
    alpha = node.get("alpha", 1.702)
    return lambda x: x * torch.sigmoid(alpha * x)


@operator("BiasGelu", domain=MICROSOFT)
def bias_gelu(node: Node) -> Kernel:
    """BiasGelu of com.microsoft."""
    return lambda x, bias: F.gelu(x + bias)


@operator("FastGelu", domain=MICROSOFT)
def fast_gelu(node: Node) -> Kernel:
    """FastGelu of com.microsoft: tanh form, with an optional bias."""
    return lambda x, bias=None: F.gelu(x if bias is None else x + bias, approximate="tanh")


def by_name(name: str, alpha: float | None, beta: float | None) -> Kernel:
    """Return an activation by the name that recurrent and fused operators use.

    A missing number is what onnxruntime takes for it.

    Raises:
        KeyError: No activation has this name.
    """
    table: dict[str, Kernel] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "affine": lambda x: (alpha or 0.0) * x + (beta or 0.0),
        "leakyrelu": lambda x: F.leaky_relu(x, 0.01 if alpha is None else alpha),
        "thresholdedrelu": lambda x: F.threshold(x, alpha or 0.0, 0.0),
        "scaledtanh": lambda x: (alpha or 0.0) * torch.tanh((beta or 0.0) * x),
        "hardsigmoid": (
            lambda x: (
                (0.2 if alpha is None else alpha) * x + (0.5 if beta is None else beta)
            ).clamp(0.0, 1.0)
        ),
        "elu": lambda x: F.elu(x, 1.0 if alpha is None else alpha),
        "softsign": F.softsign,
        "softplus": lambda x: torch.logaddexp(x, torch.zeros((), dtype=x.dtype, device=x.device)),
        "clip": lambda x: x.clamp(
            -math.inf if alpha is None else alpha, math.inf if beta is None else beta
        ),
    }
    return table[name.lower()]
