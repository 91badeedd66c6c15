"""Normalisation layers of onnxruntime, with what is fused to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.onnx_io.lowering.lowering_errors import StaysError
from cimrobust.onnx_io.lowering.lowering_registry import lowers
from cimrobust.onnx_io.lowering.standard_nodes import mean, number, total

if TYPE_CHECKING:
    from cimrobust.onnx_io.lowering.job import Job

_LAYER_NORM_SINCE = 17
_RMS_NORM_SINCE = 23


def layer_norm(job: Job, x: str, gamma: str, beta: str, elem_type: int) -> str:
    """Normalise the last axis to mean 0 and deviation 1, then scale and shift.

    Args:
        job: The node.
        x: Tensor of type `elem_type`.
        gamma: Scale.
        beta: Shift, ``""`` for none.
        elem_type: Element type of all of them.
    """
    epsilon = job.number("epsilon", 1e-5)
    if job.opset >= _LAYER_NORM_SINCE:
        return job.add("LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)
    return _written_out(job, x, gamma, beta, [-1], centred=True, elem_type=elem_type)[0]


def rms_norm(job: Job, x: str, gamma: str, elem_type: int) -> str:
    """Scale the last axis to root mean square 1, then by `gamma`; arguments as for `layer_norm`."""
    epsilon = job.number("epsilon", 1e-5)
    if job.opset >= _RMS_NORM_SINCE:
        return job.add("RMSNormalization", x, gamma, axis=-1, epsilon=epsilon)
    return _written_out(job, x, gamma, "", [-1], centred=False, elem_type=elem_type)[0]


def _written_out(
    job: Job, x: str, gamma: str, beta: str, axes: list[int], *, centred: bool, elem_type: int
) -> tuple[str, str, str]:
    """Return the normalised tensor, the mean and the inverse deviation.

    The mean is ``""`` where the tensor is not centred.
    """
    average = mean(job, x, axes) if centred else ""
    moved = job.add("Sub", x, average) if centred else x
    spread = mean(job, job.add("Mul", moved, moved), axes)
    deviation = job.add(
        "Sqrt", job.add("Add", spread, number(job, job.number("epsilon", 1e-5), elem_type))
    )
    scaled = job.add("Mul", job.add("Div", moved, deviation), gamma)
    return total(job, scaled, beta), average, job.add("Reciprocal", deviation)


def _axes(job: Job, name: str) -> list[int]:
    """Return the axes that the attribute `axis` stands for."""
    axis = job.integer("axis", -1)
    if axis == -1:
        return [-1]
    rank = job.rank(name)
    return list(range(axis % rank, rank))


@lowers("LayerNormalization", before=_LAYER_NORM_SINCE)
def early_layer_normalization(job: Job) -> None:
    """ReduceMean, Sub, Mul, Sqrt, Div, Mul, Add."""
    x = job.input(0)
    kind = job.elem_type(job.known(x, job.input(1)))
    job.finish(
        *_written_out(
            job, x, job.input(1), job.input(2), _axes(job, x), centred=True, elem_type=kind
        )
    )


@lowers("SimplifiedLayerNormalization")
def simplified_layer_normalization(job: Job) -> None:
    """RMSNormalization; before operator set 23 ReduceMean, Sqrt, Div, Mul."""
    x, axes = job.input(0), _axes(job, job.input(0))
    kind = job.elem_type(job.known(x, job.input(1)))
    if axes == [-1] and not job.wants(1):
        job.finish(rms_norm(job, x, job.input(1), kind))
        return
    result, _average, inverse = _written_out(
        job, x, job.input(1), "", axes, centred=False, elem_type=kind
    )
    job.finish(result, inverse)


@lowers("com.microsoft::SkipLayerNormalization")
def skip_layer_normalization(job: Job) -> None:
    """Add, LayerNormalization; before operator set 17 written out."""
    x, skip, gamma, beta, bias = (job.input(index) for index in range(5))
    summed = total(job, x, skip, bias)
    _finish(
        job, layer_norm(job, summed, gamma, beta, job.elem_type(job.known(x, skip, gamma))), summed
    )


@lowers("com.microsoft::SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(job: Job) -> None:
    """Add, RMSNormalization; before operator set 23 written out."""
    x, skip, gamma, bias = (job.input(index) for index in range(4))
    summed = total(job, x, skip, bias)
    _finish(job, rms_norm(job, summed, gamma, job.elem_type(job.known(x, skip, gamma))), summed)


def _finish(job: Job, result: str, summed: str) -> None:
    if job.wants(1) or job.wants(2):
        raise StaysError(
            "its mean and inverse deviation are outputs that onnxruntime does not compute"
        )
    job.finish(result, "", "", summed)
