"""Opening the torch twin for a search.

Is there one, does it decide as the deployed network does, do gradients reach every layer?
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from cimrobust.data.task import Task
from cimrobust.engine.checks import random_vertex
from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.engine.open import Runtime
from cimrobust.errors import CimrobustError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.fake_quant import with_fake_quantisers
from cimrobust.search.crafting import affordable_samples, crafting_subset
from cimrobust.search.losses import CrossEntropy, Loss, RegressionError
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.problem import Problem
from cimrobust.search.readout import Readout, decide, possible_readouts
from cimrobust.search.search_budget import Budget
from cimrobust.search.search_records import Warned
from cimrobust.search.torch_patterns import array_of, tensors_of
from cimrobust.twin.to_torch import Twin, TwinRunError, TwinUnavailableError, to_torch

_CHECKED_SAMPLES = 128
# Share of decisions in which the twin may differ: sums in another order flip near ties, and in
# networks that round their activations whole levels: both multiply dequantised float32 weights, so
# neither is exact. For a regression: share of the range of outputs.
_FLOAT_TOLERANCE = 0.02
_INTEGER_TOLERANCE = 0.05
_VALUE_TOLERANCE = 1e-3
_ZERO_SHARE = 0.95
# Nodes whose torch form may fail before the twin as a whole is given up.
_MOST_FAILED = 16


@dataclass(frozen=True)
class Opened:
    """What came of opening the twin.

    Attributes:
        oracle: Gradients; None where there is no twin.
        crafting: Indices of the crafting samples.
        reason: Why there is no twin.
        warnings: Named warnings.
    """

    oracle: GradientOracle | None
    crafting: np.ndarray
    reason: str | None
    warnings: tuple[Warned, ...]


def open_gradients(
    runtime: Runtime,
    placement: Placement,
    budget: Budget,
    *,
    seed: int,
    workers: int,
    device: torch.device,
) -> Opened:
    """Build the twin, choose the crafting samples it can afford, and prove that it decides as the deployed network does."""
    task = runtime.task

    def subset(count: int) -> np.ndarray:
        return crafting_subset(
            task.labels, count=count, seed=seed, is_regression=task.is_regression
        )

    try:
        twin, count = _running_twin(runtime, budget)
        crafting = subset(count)
        oracle, reason = _agreeing(twin, runtime, placement, crafting, workers, device)
    except TwinUnavailableError as err:
        return _without(subset(budget.max_samples), str(err), "NO_TWIN")
    except (CimrobustError, RuntimeError, NotImplementedError, TypeError, ValueError) as err:
        return _without(
            subset(budget.max_samples), f"the torch twin does not run: {err}", "NO_TWIN"
        )
    if oracle is None:
        return _without(crafting, reason, "TWIN_MISMATCH")
    return Opened(
        oracle, crafting, None, (Warned(code="TWIN_APPROXIMATE", text=reason),) if reason else ()
    )


def _running_twin(runtime: Runtime, budget: Budget) -> tuple[Twin, int]:
    """Return the twin and the crafting samples it can afford.

    A node whose torch form fails on the samples runs outside as well.
    """
    model, failed = _twin_model(runtime), dict[str, str]()
    while True:
        twin = to_torch(
            model,
            weight_names=runtime.deployed.weight_names,
            outputs=[runtime.engine.output],
            outside=True,
            forced=failed,
        )
        twin.straight_through = True
        try:
            return twin, affordable_samples(budget, twin, runtime)
        except TwinRunError as err:
            if not err.node or err.node in failed or len(failed) >= _MOST_FAILED:
                raise
            failed[err.node] = str(err)


def _twin_model(runtime: Runtime) -> Any:
    """Return the network that gradients are taken of.

    With converters, the inputs of crossbar nodes are rounded to the levels of their word lines.
    """
    engine = runtime.engine
    return (
        runtime.at_hand.model
        if not isinstance(engine, KernelEngine)
        else with_fake_quantisers(engine.deployed.model, engine.input_levels())
    )


def _approximation(readout: Readout, disagreement: float) -> str:
    what = "of the output range" if readout.kind == "value" else "of the decisions"
    return (
        "The torch twin has the converters of the word lines, not those of the bit lines: it"
        f" differs from the chip by {100 * disagreement:.2g} % {what}. Its gradients may mislead;"
        " every pattern is scored with all converters."
    )


def _without(crafting: np.ndarray, reason: str, code: str) -> Opened:
    text = (
        f"{reason[:1].upper()}{reason[1:]}. Only gradient-free members searched; they find far"
        " less."
    )
    return Opened(None, crafting, reason, (Warned(code=code, text=text),))


def _agreeing(
    twin: Twin,
    runtime: Runtime,
    placement: Placement,
    crafting: np.ndarray,
    workers: int,
    device: torch.device,
) -> tuple[GradientOracle | None, str]:
    """Return an oracle whose decisions are those of the deployed network at the nominal weights and at a random corner, and why not where there is none.

    With converters, which the twin has in part, a difference is no reason to do without it: the
    second value then says how large it is.
    """
    points = [
        placement.nominal(),
        {name: random_vertex(tensor) for name, tensor in placement.tensors.items()},
    ]
    some, box = crafting[:_CHECKED_SAMPLES], box_of(placement)
    part = replace(runtime.task, labels=runtime.task.labels[some])
    expected = [runtime.outputs(weights, subset=some, threads=workers) for weights in points]
    reason = (
        f"the decision output '{runtime.engine.output}' has no gradient: it is not chosen from"
        " scores by ArgMax or ArgMin"
    )
    for readout in possible_readouts(twin, runtime.task, runtime.engine.output):
        oracle = GradientOracle(
            twin, runtime, readout, crafting, box, workers=workers, device=device
        )
        try:
            found = [array_of(oracle.rows(weights, num_samples=len(some))) for weights in points]
        except (CimrobustError, RuntimeError, IndexError, ValueError) as err:
            reason = f"the torch twin does not run: {err}"
            continue
        worst = max(
            _disagreement(part, readout, rows, output)
            for rows, output in zip(found, expected, strict=True)
        )
        if worst <= _tolerance(runtime) or (runtime.converters is not None and np.isfinite(worst)):
            return oracle, _approximation(readout, worst) if worst > _tolerance(runtime) else ""
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


def _disagreement(task: Task, readout: Readout, rows: np.ndarray, output: np.ndarray) -> float:
    """Return the share of decisions that differ.

    For a regression the largest difference over the range of outputs.
    """
    if readout.kind == "value":
        values = output.reshape(-1).astype(np.float64)
        scale = float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) or 1.0
        return (
            float(np.nan_to_num(np.abs(rows[:, 0] - values), nan=np.inf).max() / scale)
            if rows.shape[0] == values.size
            else np.inf
        )
    counted = task.counted.reshape(-1)
    decided, labels = task.decide(output).reshape(-1)[counted], task.labels.reshape(-1)[counted]
    if rows.shape[0] != decided.size:
        return np.inf
    found = decide(rows)
    if (
        task.decision.k > 1
    ):  # rows do not say which class is first where the label is not among the best
        return float(((found == labels) != (decided == labels)).mean())
    return float((found != decided).mean())


def check_gradients(problem: Problem, dead: tuple[str, ...]) -> list[Warned]:
    """Make one pass without straight-through gradients and name the layers that they do not reach.

    Layers on which no output depends are left out. Later passes let rounding and the like pass
    gradients through. Converters round the input of every
    layer: with them, the pass lets gradients through too.
    """
    assert problem.oracle is not None
    loss: Loss = (
        RegressionError(problem.task.metric) if problem.task.is_regression else CrossEntropy()
    )
    zero = tensors_of(problem.box.zero(), problem.oracle.device)
    with (
        nullcontext() if problem.runtime.converters is not None else problem.oracle.raw_gradients()
    ):
        evaluation = problem.step(zero, loss, problem.scale_at(problem.box.zero(), loss))
    shares = {
        name: float((gradient == 0).double().mean())
        for name, gradient in evaluation.gradients.items()
    }
    warnings = [
        Warned(code="ZERO_GRADIENT", text=_zero_text(name, share))
        for name, share in shares.items()
        if share > _ZERO_SHARE and name not in dead
    ]
    estimated = [node.text for node in problem.oracle.outside if node.used]
    return [
        *warnings,
        *(
            [Warned(code="ESTIMATED_GRADIENT", text=_estimated_text(estimated))]
            if estimated
            else []
        ),
    ]


def _estimated_text(nodes: list[str]) -> str:
    some = ", ".join(nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
    return (
        "Nodes without a form that can be differentiated run in onnxruntime, and gradients through"
        f" them are estimates: {some}. The gradients of all other nodes are exact; the search may"
        " find less than it would with exact ones throughout."
    )


def _zero_text(name: str, share: float) -> str:
    return (
        f"The gradient is zero for {100 * share:.1f} % of the weights of '{name}' at the quantised"
        " weights; the search uses straight-through gradients for rounding operators, and its"
        " result may be far from the worst."
    )
