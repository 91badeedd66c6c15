"""Normalisation layers at inference."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from cimrobust.twin.ops.converter_registry import (
    MICROSOFT,
    CannotConvertError,
    Kernel,
    Node,
    operator,
)


@operator("BatchNormalization", since=7)
def batch_normalization(node: Node) -> Kernel:
    """BatchNormalization-7 and on with stored statistics."""
    if node.get("training_mode", 0):
        raise CannotConvertError("training_mode = 1 is not covered")
    if node.get("spatial", 1) == 0:
        raise CannotConvertError("spatial = 0 is not covered")
    epsilon = node.get("epsilon", 1e-5)

    def run(
        x: Float[Tensor, "*shape"],
        scale: Float[Tensor, "channels"],
        bias: Float[Tensor, "channels"],
        mean: Float[Tensor, "channels"],
        variance: Float[Tensor, "channels"],
    ) -> Float[Tensor, "*shape"]:
        if mean.requires_grad or variance.requires_grad or x.dim() < 2:
            view = (1, -1, *(1,) * (x.dim() - 2)) if x.dim() > 1 else (-1,)
            factor = scale / torch.sqrt(variance + epsilon)
            return x * factor.reshape(view) + (bias - mean * factor).reshape(view)
        return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)

    return run


@operator("InstanceNormalization")
def instance_normalization(node: Node) -> Kernel:
    """InstanceNormalization: over all axes after the channel, sample by sample."""
    epsilon = node.get("epsilon", 1e-5)

    def run(
        x: Float[Tensor, "samples channels *positions"],
        scale: Float[Tensor, "channels"],
        bias: Float[Tensor, "channels"],
    ) -> Float[Tensor, "samples channels *positions"]:
        axes = tuple(range(2, x.dim()))
        view = (1, -1, *(1,) * len(axes))
        return standardised(x, axes, epsilon) * scale.reshape(view) + bias.reshape(view)

    return run


def standardised(
    x: Float[Tensor, "*shape"], axes: tuple[int, ...], epsilon: float
) -> Float[Tensor, "*shape"]:
    """Return a tensor with zero mean and unit variance along some axes."""
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)


@operator("LayerNormalization")
def layer_normalization(node: Node) -> Kernel:
    """LayerNormalization-17: over the axes from `axis` on.

    Also mean and inverse deviation where asked for.
    """
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)
    statistics = node.wants(1) or node.wants(2)

    def run(
        x: Float[Tensor, "*shape"],
        scale: Float[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*shape"] | tuple[Float[Tensor, "..."], ...]:
        start = axis % x.dim()
        shape = x.shape[start:]
        fits = (scale is None or scale.shape == shape) and (bias is None or bias.shape == shape)
        if not statistics and fits:
            return F.layer_norm(x, shape, scale, bias, epsilon)
        axes = tuple(range(start, x.dim()))
        mean = x.mean(axes, keepdim=True)
        centred = x - mean
        inverse = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)
        y = centred * inverse
        y = y if scale is None else y * scale
        return y if bias is None else y + bias, mean, inverse

    return run


@operator("RMSNormalization")
def rms_normalization(node: Node) -> Kernel:
    """RMSNormalization-23: scaled to unit root mean square over the axes from `axis` on."""
    axis, epsilon = node.get("axis", -1), node.get("epsilon", 1e-5)

    def run(x: Float[Tensor, "*shape"], scale: Float[Tensor, "..."]) -> Float[Tensor, "*shape"]:
        axes = tuple(range(axis % x.dim(), x.dim()))
        return x * torch.rsqrt((x * x).mean(axes, keepdim=True) + epsilon) * scale

    return run


@operator("SimplifiedLayerNormalization")
def simplified_layer_normalization(node: Node) -> Kernel:
    """SimplifiedLayerNormalization, an older name of RMSNormalization in onnxruntime's exports."""
    return rms_normalization(node)


@operator("GroupNormalization")
def group_normalization(node: Node) -> Kernel:
    """GroupNormalization: scale and bias are per group in opset 18, per channel from 21 on."""
    groups, epsilon = int(node.get("num_groups")), node.get("epsilon", 1e-5)

    def run(
        x: Float[Tensor, "samples channels *positions"],
        scale: Float[Tensor, "_channels"],
        bias: Float[Tensor, "_channels"],
    ) -> Float[Tensor, "samples channels *positions"]:
        channels = x.shape[1]
        if scale.shape[0] != channels:
            scale, bias = (value.repeat_interleave(channels // groups) for value in (scale, bias))
        return F.group_norm(x, groups, scale, bias, epsilon)

    return run


@operator("LRN")
def lrn(node: Node) -> Kernel:
    """LRN: over neighbouring channels."""
    size, alpha = int(node.get("size")), node.get("alpha", 1e-4)
    beta, bias = node.get("beta", 0.75), node.get("bias", 1.0)

    def run(
        x: Float[Tensor, "samples channels *positions"],
    ) -> Float[Tensor, "samples channels *positions"]:
        squares = F.pad((x * x).movedim(1, -1), ((size - 1) // 2, size // 2))
        total = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
        y: Float[Tensor, "samples channels *positions"] = x / (bias + alpha / size * total) ** beta
        return y

    return run


@operator("MeanVarianceNormalization")
def mean_variance_normalization(node: Node) -> Kernel:
    """MeanVarianceNormalization."""
    axes = tuple(node.get("axes", (0, 2, 3)))

    def run(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        mean = x.mean(axes, keepdim=True)
        deviation = ((x * x).mean(axes, keepdim=True) - mean * mean).clamp_min(0).sqrt()
        return (x - mean) / (deviation + 1e-9)

    return run


@operator("LpNormalization")
def lp_normalization(node: Node) -> Kernel:
    """LpNormalization: zero stays zero."""
    axis, p = node.get("axis", -1), node.get("p", 2)

    def run(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return run


@operator("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_layer_normalization(node: Node) -> Kernel:
    """SkipLayerNormalization of com.microsoft: of input + skip (+ bias).

    The fourth output is the sum.
    """
    epsilon, simplified = node.get("epsilon", 1e-5), node.op.startswith("SkipSimplified")

    def run(
        x: Float[Tensor, "*shape units"],
        skip: Float[Tensor, "..."],
        gamma: Float[Tensor, "units"],
        beta: Float[Tensor, "units"] | None = None,
        bias: Float[Tensor, "units"] | None = None,
    ) -> tuple[Float[Tensor, "..."] | None, ...]:
        if simplified:
            beta, bias = None, beta if bias is None else bias
        total = x + skip
        if bias is not None:
            total = total + bias
        if simplified:
            y = total * torch.rsqrt((total * total).mean(-1, keepdim=True) + epsilon) * gamma
        else:
            y = F.layer_norm(total, total.shape[-1:], gamma, beta, epsilon)
        return y, None, None, total

    return run
