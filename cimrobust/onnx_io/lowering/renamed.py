"""Operators that the standard has too, under other names or with older signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import require_opset, reshape, unsqueeze

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job


@lowers("com.microsoft::Trilu", widens=False)
def trilu(job: Job) -> None:
    """Trilu."""
    require_opset(job, 14)
    job.finish(job.add("Trilu", job.input(0), job.input(1), upper=job.integer("upper", 1)))


@lowers("com.microsoft::Range", widens=False)
def number_range(job: Job) -> None:
    """Range."""
    require_opset(job, 11)
    start, limit = (reshape(job, job.input(index)) for index in range(2))
    delta = (
        reshape(job, job.input(2))
        if job.input(2)
        else job.scalar(1, like=job.known(job.input(0), job.input(1)))
    )
    job.finish(job.add("Range", start, limit, delta))


@lowers("com.microsoft::ExpandDims", widens=False)
def expand_dims(job: Job) -> None:
    """Unsqueeze."""
    axis = job.value(job.input(1))
    if axis is None:
        raise StaysError("its axis is not constant")
    place = int(np.asarray(axis).reshape(()))
    job.finish(
        unsqueeze(job, job.input(0), place if place >= 0 else place + job.rank(job.input(0)) + 1)
    )


@lowers("com.microsoft::GatherND", widens=False)
def gather_nd(job: Job) -> None:
    """GatherND."""
    require_opset(job, 11)
    job.finish(job.add("GatherND", job.input(0), job.input(1)))


@lowers("com.microsoft::Pad", widens=False)
def pad(job: Job) -> None:
    """Pad."""
    require_opset(job, 11)
    pads, value = reshape(job, job.input(1), -1), job.input(2)
    job.finish(
        job.add(
            "Pad",
            job.input(0),
            pads,
            value and reshape(job, value),
            mode=job.text("mode", "constant"),
        )
    )


@lowers("com.microsoft::GridSample")
def grid_sample(job: Job) -> None:
    """GridSample."""
    require_opset(job, 16)
    mode = job.text("mode", "bilinear")
    if job.opset >= 20:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    job.finish(
        job.add(
            "GridSample",
            job.input(0),
            job.input(1),
            taken=job.given("align_corners", "padding_mode"),
            mode=mode,
        )
    )


@lowers("Affine", before=10)
def affine(job: Job) -> None:
    """Mul, Add."""
    x = job.input(0)
    scaled = job.add("Mul", x, job.scalar(job.number("alpha", 1.0), like=x))
    job.finish(job.add("Add", scaled, job.scalar(job.number("beta", 0.0), like=x)))


@lowers("Scale", before=10)
def scale(job: Job) -> None:
    """Mul."""
    job.finish(
        job.add("Mul", job.input(0), job.scalar(job.number("scale", 1.0), like=job.input(0)))
    )


@lowers("ScaledTanh", before=10)
def scaled_tanh(job: Job) -> None:
    """Mul, Tanh, Mul."""
    x = job.input(0)
    bent = job.add("Tanh", job.add("Mul", x, job.scalar(job.number("beta", 0.0), like=x)))
    job.finish(job.add("Mul", bent, job.scalar(job.number("alpha", 0.0), like=x)))


@lowers("ParametricSoftplus", before=10)
def parametric_softplus(job: Job) -> None:
    """Mul, Softplus, Mul."""
    x = job.input(0)
    bent = job.add("Softplus", job.add("Mul", x, job.scalar(job.number("beta", 0.0), like=x)))
    job.finish(job.add("Mul", bent, job.scalar(job.number("alpha", 0.0), like=x)))


@lowers("ImageScaler", before=10)
def image_scaler(job: Job) -> None:
    """Mul, Add."""
    x, bias = job.input(0), job.numbers("bias")
    scaled = job.add("Mul", x, job.scalar(job.number("scale", 1.0), like=x))
    kind = np.asarray(bias, np.float32).reshape(1, -1, 1, 1)
    job.finish(job.add("Add", scaled, job.constant(kind, "bias")))
