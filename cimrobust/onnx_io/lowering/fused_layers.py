"""Layers that onnxruntime fuses with what is around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

#: Activations of fused nodes and the attributes that their parameters are, in order.
_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}

CONV_ATTRIBUTES = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@lowers("com.microsoft::FusedConv")
def fused_conv(job: Job) -> None:
    """Conv, Add, the activation."""
    result = job.add(
        "Conv",
        *(job.input(index) for index in range(3)),
        wish="conv",
        taken=job.given(*CONV_ATTRIBUTES),
    )
    if job.input(3):
        result = job.add("Add", result, job.input(3), wish="sum")
    job.finish(_activated(job, result, job.numbers("activation_params")))


@lowers("com.microsoft::FusedGemm")
def fused_gemm(job: Job) -> None:
    """Gemm, the activation."""
    result = job.add(
        "Gemm",
        *(job.input(index) for index in range(3)),
        wish="gemm",
        taken=job.given("alpha", "beta", "transA", "transB"),
    )
    params = [
        value
        for value in job.given("activation_alpha", "activation_beta").values()
        if isinstance(value, float)
    ]
    job.finish(_activated(job, result, params))


def _activated(job: Job, name: str, params: Sequence[float]) -> str:
    """Add the activation that a fused node ends with.

    A parameter that is left out is the operator's own default.
    """
    activation = job.text("activation")
    if activation == "Clip":
        low, high = [*params, -np.inf, np.inf][:2] if len(params) < 2 else params[:2]
        return _clipped(job, name, low, high)
    if not activation:
        return name
    if activation not in _ACTIVATIONS:
        raise StaysError(f"its activation {activation} is not covered")
    return job.add(
        activation,
        name,
        wish="activation",
        taken=dict(zip(_ACTIVATIONS[activation], params, strict=False)),
    )


def _clipped(job: Job, name: str, low: float, high: float) -> str:
    like = job.known(name, job.input(0), job.input(1))
    for op, bound in (("Max", low), ("Min", high)):
        if np.isfinite(bound):
            name = job.add(op, name, job.scalar(bound, like=like), wish=f"clip_{op.lower()}")
    return name


@lowers("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def fused_matmul(job: Job) -> None:
    """Transpose, MatMul, Mul."""
    left, right = (_transposed(job, job.input(index), letter) for index, letter in enumerate("AB"))
    product = job.add("MatMul", left, right, wish="product")
    alpha = job.number("alpha", 1.0)
    if alpha != 1.0:
        product = job.add(
            "Mul",
            product,
            job.scalar(alpha, like=job.known(job.input(0), job.input(1))),
            wish="scaled",
        )
    job.finish(product)


def _transposed(job: Job, name: str, letter: str) -> str:
    """Return an operand in the order of axes that MatMul has; a vector is left as it is."""
    flips, moves = (
        bool(job.integer(f"trans{letter}", 0)),
        bool(job.integer(f"transBatch{letter}", 0)),
    )
    if not flips and not moves:
        return name
    rank = job.rank(name)
    if rank < 2:
        return name
    order = [*range(rank)]
    if moves:  # the rows come first and the batch axes after them
        order = [*order[1:-1], 0, rank - 1]
    if flips:
        order[-2:] = reversed(order[-2:])
    return (
        name
        if order == sorted(order)
        else job.add("Transpose", name, perm=order, wish=f"transposed_{letter.lower()}")
    )
