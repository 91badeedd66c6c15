"""What converters do to the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.certificate import models
from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.records import finite

if TYPE_CHECKING:
    from cimrobust.certificate.evidence import Evidence
    from cimrobust.engine.array_plan import PlannedArray
    from cimrobust.engine.codings import ArrayRanges


def converters(evidence: Evidence) -> models.Converters | None:
    """Describe the converters of a run; None where the profile has none."""
    done, engine = evidence.runtime.converters, evidence.runtime.engine
    if done is None or not isinstance(engine, KernelEngine):
        return None
    return models.Converters(
        score=finite(done.score.value),
        correct=done.score.count,
        calibration_samples=done.calibration_samples,
        calibration_files=dict(done.calibration_files),
        arrays=[_array(key, array, done.ranges[key]) for key, array in engine.arrays.items()],
        digital=[
            models.Unmapped(node=node.node, op=node.op, reason=node.reason)
            for node in engine.digital
        ],
    )


def _array(key: str, array: PlannedArray, ranges: ArrayRanges) -> models.ConvertedArray:
    layout, inputs, outputs = array.use.layout, array.input_coding, array.output_coding
    num_planes = outputs.gain.shape[0]
    has_adc = outputs.inverse_step is not None
    return models.ConvertedArray(
        product=key,
        rows=layout.rows,
        columns=layout.num_columns,
        row_tiles=layout.num_row_tiles,
        planes=num_planes,
        passes=inputs.num_passes,
        input_low=ranges.low,
        input_high=ranges.high,
        level_low=inputs.low,
        level_high=inputs.high,
        zero_level=inputs.zero_point,
        code_low=outputs.low if has_adc else None,
        code_high=outputs.high if has_adc else None,
        largest_sum=None if ranges.sums is None else float(ranges.sums.max()),
        sums=None if ranges.sums is None else ranges.sums.tolist(),
        conversions_per_vector=(
            num_planes * layout.num_row_tiles * inputs.num_passes * layout.num_columns
            if has_adc
            else 0
        ),
    )
