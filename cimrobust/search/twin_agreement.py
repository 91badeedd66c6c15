"""Does the torch twin decide as the deployed network does?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int64, Shaped

from cimrobust.engine.activation_sizes import activation_bytes
from cimrobust.engine.checks import random_vertex
from cimrobust.errors import CimrobustError, MemoryShortError
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.readout import Readout, decide, possible_readouts
from cimrobust.search.torch_patterns import array_of

if TYPE_CHECKING:
    import torch

    from cimrobust.data.task import Task
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.straight_crossbars import StraightCrossbars
    from cimrobust.engine.subject import Subject
    from cimrobust.twin.to_torch import Twin

_CHECKED_SAMPLES = 128
# Share of decisions in which the twin may differ: sums in another order flip near ties, and in
# networks that round their activations whole levels: both multiply dequantised float32 weights, so
# neither is exact. For a regression: share of the range of outputs.
_FLOAT_TOLERANCE = 0.02
_INTEGER_TOLERANCE = 0.05
_VALUE_TOLERANCE = 1e-3


def agreeing_oracle(
    twin: Twin,
    subject: Subject,
    attack_set: Int64[np.ndarray, "samples"],
    workers: int,
    device: torch.device,
    crossbars: StraightCrossbars | None,
    beside: str,
) -> tuple[GradientOracle | None, str]:
    """Return an oracle that decides as the deployed network does, and why not where there is none.

    Compared at the nominal weights and at a random corner.

    With converters, which the twin has in part, a difference is no reason to do without it: the
    second value then says how large it is.
    """
    runtime, placement = subject.runtime, subject.placement
    points = [
        placement.nominal(),
        {name: random_vertex(tensor) for name, tensor in placement.tensors.items()},
    ]
    some = attack_set[:_CHECKED_SAMPLES]
    part = replace(runtime.task, labels=runtime.task.labels[some])
    expected = [runtime.outputs(weights, subset=some, threads=workers) for weights in points]
    reason = (
        f"the decision output '{runtime.engine.output}' has no gradient: it is not chosen from"
        " scores by ArgMax, ArgMin or a TopK of one"
    )
    sample_bytes = activation_bytes(runtime.at_hand)
    for readout in possible_readouts(twin, runtime.task, runtime.engine.output):
        oracle = GradientOracle(
            twin,
            runtime,
            readout,
            attack_set,
            subject.box,
            workers=workers,
            device=device,
            sample_bytes=sample_bytes,
            crossbars=crossbars,
        )
        try:
            found = [array_of(oracle.logits(weights, num_samples=len(some))) for weights in points]
        except MemoryShortError:
            raise
        except (CimrobustError, RuntimeError, IndexError, ValueError) as err:
            reason = f"the torch twin does not run: {err}"
            continue
        worst = max(
            _disagreement(part, readout, logits, output)
            for logits, output in zip(found, expected, strict=True)
        )
        if worst <= _tolerance(runtime) or (runtime.converters is not None and np.isfinite(worst)):
            if worst <= _tolerance(runtime):
                return oracle, ""
            return oracle, _approximation(readout, worst, crossbars, beside)
        what = "of the output range" if readout.kind == "value" else "of the decisions"
        reason = (
            f"the torch twin differs from the deployed network by {100 * worst:.2g} % {what}, more"
            f" than {100 * _tolerance(runtime):g} %"
        )
    return None, reason


def _tolerance(runtime: Runtime) -> float:
    if runtime.checks.original.tolerance is None:
        return _INTEGER_TOLERANCE
    return _VALUE_TOLERANCE if runtime.task.is_regression else _FLOAT_TOLERANCE


def _disagreement(
    task: Task,
    readout: Readout,
    logits: Float[np.ndarray, "decisions classes"],
    output: Shaped[np.ndarray, "samples ..."],
) -> float:
    """Return the share of decisions that differ.

    For a regression the largest difference over the range of outputs.
    """
    if readout.kind == "value":
        values = output.reshape(-1).astype(np.float64)
        scale = float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
        return (
            float(np.nan_to_num(np.abs(logits[:, 0] - values), nan=np.inf).max() / scale)
            if logits.shape[0] == values.size
            else np.inf
        )
    counted = task.counted.reshape(-1)
    decided, labels = task.decide(output).reshape(-1)[counted], task.labels.reshape(-1)[counted]
    if logits.shape[0] != decided.size:
        return np.inf
    found = decide(logits)
    if (
        task.decision.k > 1
    ):  # logits do not say which class is first where the label is not among the best
        return float(((found == labels) != (decided == labels)).mean())
    return float((found != decided).mean())


def _approximation(
    readout: Readout, disagreement: float, crossbars: StraightCrossbars | None, beside: str
) -> str:
    what = "of the output range" if readout.kind == "value" else "of the decisions"
    has = (
        "the converters of the word lines, not those of the bit lines"
        if crossbars is None
        else "the converters of the profile, not the noise of reads"
    )
    return (
        f"The torch twin has {has}: it differs from the chip by {100 * disagreement:.2g} % {what}."
        f"{beside} Its gradients may mislead; every pattern is scored with all converters."
    )
