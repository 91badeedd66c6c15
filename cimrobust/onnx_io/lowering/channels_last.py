"""Operators whose channels are the last axis, as onnxruntime lays out networks of integers.

The standard ones between two transpositions.
"""

from __future__ import annotations

from dataclasses import dataclass

from cimrobust.onnx_io.lowering.fused_layers import CONV_ATTRIBUTES
from cimrobust.onnx_io.lowering.job import Job
from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers

_POOL_ATTRIBUTES = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")


@lowers("com.microsoft::QLinearConv", widens=False)
def quantised_conv(job: Job) -> None:
    """QLinearConv; Transpose where channels come last."""
    layout = _Layout(job, len(job.shape(job.input(3)))) if job.integer("channels_last", 0) else None
    data = job.input(0) if layout is None else layout.first(job.input(0))
    made = job.add("QLinearConv", data, *job.node.input[1:], taken=job.given(*CONV_ATTRIBUTES))
    job.finish(made if layout is None else layout.last(made))


@lowers("com.microsoft::NhwcMaxPool", widens=False)
def max_pool(job: Job) -> None:
    """Transpose, MaxPool, Transpose."""
    if job.opset < 12:
        raise StaysError("MaxPool of integers is of operator set 12")
    layout = _Layout(job, len(job.integers("kernel_shape")) + 2)
    job.finish(
        layout.last(
            job.add("MaxPool", layout.first(job.input(0)), taken=job.given(*_POOL_ATTRIBUTES))
        )
    )


@dataclass(frozen=True)
class _Layout:
    """Moves the channels of tensors with a number of axes."""

    job: Job
    rank: int

    def first(self, name: str) -> str:
        """Move channels from the last axis behind the batch."""
        return self.job.add("Transpose", name, perm=[0, self.rank - 1, *range(1, self.rank - 1)])

    def last(self, name: str) -> str:
        """Move channels from behind the batch to the last axis."""
        return self.job.add("Transpose", name, perm=[0, *range(2, self.rank), 1])
