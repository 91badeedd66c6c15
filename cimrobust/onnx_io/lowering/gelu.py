"""The Gelu family of com.microsoft."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import total

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

_GELU_SINCE = 20


def exact_gelu(job: Job, x: str, like: str) -> str:
    """Return x/2 (1 + erf(x / sqrt 2)); `like` is a tensor of its type."""
    if job.opset >= _GELU_SINCE:
        return job.add("Gelu", x)
    inner = job.add("Erf", job.add("Mul", x, job.scalar(math.sqrt(0.5), like=like)))
    half = job.add("Mul", x, job.scalar(0.5, like=like))
    return job.add("Mul", half, job.add("Add", inner, job.scalar(1.0, like=like)))


def tanh_gelu(job: Job, x: str, like: str) -> str:
    """Return x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))); `like` is a tensor of its type."""
    if job.opset >= _GELU_SINCE:
        return job.add("Gelu", x, approximate="tanh")
    cube = job.add("Mul", job.add("Mul", x, x), x)
    inner = job.add("Add", x, job.add("Mul", cube, job.scalar(0.044715, like=like)))
    bend = job.add("Tanh", job.add("Mul", inner, job.scalar(math.sqrt(2.0 / math.pi), like=like)))
    half = job.add("Mul", x, job.scalar(0.5, like=like))
    return job.add("Mul", half, job.add("Add", bend, job.scalar(1.0, like=like)))


@lowers("com.microsoft::Gelu", "com.microsoft::BiasGelu")
def gelu(job: Job) -> None:
    """Add, Gelu; before operator set 20 Erf."""
    x = job.input(0)
    job.finish(exact_gelu(job, total(job, x, job.input(1)), job.known(x, job.input(1))))


@lowers("com.microsoft::FastGelu")
def fast_gelu(job: Job) -> None:
    """Add, Gelu (tanh form); before operator set 20 Tanh."""
    x = job.input(0)
    job.finish(tanh_gelu(job, total(job, x, job.input(1)), job.known(x, job.input(1))))


@lowers("com.microsoft::QuickGelu")
def quick_gelu(job: Job) -> None:
    """Mul, Sigmoid."""
    x = job.input(0)
    scaled = job.add("Mul", x, job.scalar(job.number("alpha", 1.702), like=x))
    job.finish(job.add("Mul", x, job.add("Sigmoid", scaled)))
