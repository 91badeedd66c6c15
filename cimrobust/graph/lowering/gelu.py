"""The Gelu family of com.microsoft."""

from __future__ import annotations

import math

from cimrobust.graph.lowering.job import Job
from cimrobust.graph.lowering.registry import lowers


def exact_gelu(job: Job, x: str) -> str:
    """Return x/2 (1 + erf(x / sqrt 2))."""
    if job.opset >= 20:
        return job.add("Gelu", x)
    inner = job.add("Erf", job.add("Mul", x, job.scalar(math.sqrt(0.5), like=x)))
    half = job.add("Mul", x, job.scalar(0.5, like=x))
    return job.add("Mul", half, job.add("Add", inner, job.scalar(1.0, like=x)))


@lowers("com.microsoft::Gelu")
def gelu(job: Job) -> None:
    """Gelu, before operator set 20 written with Erf."""
    job.finish(exact_gelu(job, job.input(0)))
