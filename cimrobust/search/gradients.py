"""Opening the torch twin for a search: is there one that decides as the deployed network does?

A stage of its own, which the search does not come back to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64, Shaped

from cimrobust.available_memory import is_about_memory, planned_memory
from cimrobust.engine.activation_sizes import activation_bytes
from cimrobust.engine.checks import random_vertex
from cimrobust.engine.input_offset import offset_wrappers
from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.engine.straight_crossbars import StraightCrossbars
from cimrobust.engine.torch_device import open_device
from cimrobust.errors import CimrobustError, MemoryShortError
from cimrobust.onnx_io.fake_quant import with_fake_quantisers
from cimrobust.search.attack_set import attack_subset, operations_per_sample
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.problem import Problem
from cimrobust.search.readout import Readout, decide, possible_readouts
from cimrobust.search.search_budget import Budget, budget_for
from cimrobust.search.search_records import Warned
from cimrobust.search.torch_patterns import array_of
from cimrobust.twin.ops.twin_step import TwinRunError
from cimrobust.twin.stored_tensors import stored_tensors
from cimrobust.twin.to_torch import Twin, TwinUnavailableError, to_torch

if TYPE_CHECKING:
    import torch

    from cimrobust.data.task import Task
    from cimrobust.engine.open import Runtime
    from cimrobust.engine.subject import Subject
    from cimrobust.mapping.box import Box
    from cimrobust.run import Run
    from cimrobust.twin.ops.program import Wrapper

#: Width of the Gaussian that stands for the derivative of a hard step, in standard deviations of
#: what is compared, where a member does not choose its own.
WIDTH = 0.3
# Nodes whose torch form may fail before the twin as a whole is given up.
_MOST_FAILED = 16
_CHECKED_SAMPLES = 128
# Share of decisions in which the twin may differ: sums in another order flip near ties, and in
# networks that round their activations whole levels: both multiply dequantised float32 weights, so
# neither is exact. For a regression: share of the range of outputs.
_FLOAT_TOLERANCE = 0.02
_INTEGER_TOLERANCE = 0.05
_VALUE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class TwinStatus:
    """What came of opening the twin.

    Attributes:
        oracle: Gradients; None where there is no twin.
        attack_set: Indices of the samples that patterns are made on.
        reason: Why there is no twin.
        warnings: Named warnings.
        operations: Floating-point operations of one sample's forward run; 0: not counted.
    """

    oracle: GradientOracle | None
    attack_set: Int64[np.ndarray, "samples"]
    reason: str | None
    warnings: tuple[Warned, ...]
    operations: float = 0.0

    def problem(self, subject: Subject, run: Run, box: Box | None = None) -> Problem:
        """Return the search of a box with these gradients.

        Args:
            subject: The network; its attack set and twin are these.
            run: How to compute.
            box: Where patterns may lie; None: the whole tolerance box.
        """
        box = subject.box if box is None else box
        return Problem(subject, box, self.attack_set, self.oracle, run)

    def on(
        self, runtime: Runtime, attack_set: Int64[np.ndarray, "samples"], box: Box | None = None
    ) -> TwinStatus:
        """Return the same for other samples, or around the nominal weights of another box.

        Arguments as for `GradientOracle.on`.
        """
        oracle = None if self.oracle is None else self.oracle.on(runtime, attack_set, box)
        return replace(self, oracle=oracle, attack_set=attack_set)


def open_gradients(
    subject: Subject, run: Run, budget: Budget | None = None, *, with_bit_lines: bool = False
) -> TwinStatus:
    """Build the twin, choose the attack set, and prove that the twin decides as the network does.

    Args:
        subject: The network.
        run: How to compute.
        budget: Gives the size of the attack set; None: that of the run's effort.
        with_bit_lines: The twin has the converters of the bit lines too, where the profile has
            some and memory allows; for patterns inside the tolerance box.

    Raises:
        UsageError: There is no such effort or device type.
    """
    runtime, task = subject.runtime, subject.runtime.task
    device, budget = open_device(run.device_type), budget or budget_for(run)

    def subset(count: int) -> Int64[np.ndarray, "samples"]:
        return attack_subset(
            task.labels, count=count, seed=run.seed, is_regression=task.is_regression
        )

    try:
        twin, operations, failed = _running_twin(runtime)
        attack_set = subset(budget.affordable(operations))
        crossbars, beside = _bit_lines(runtime) if with_bit_lines else (None, "")
        if crossbars is not None:
            twin = _compiled(runtime, failed, crossbars)
        oracle, reason = agreeing_oracle(
            twin, subject, attack_set, run.workers, device, crossbars, beside
        )
    except MemoryShortError:
        raise
    except TwinUnavailableError as err:
        return _without(subset(budget.max_samples), str(err), "NO_TWIN")
    except (CimrobustError, RuntimeError, NotImplementedError, TypeError, ValueError) as err:
        if is_about_memory(err):
            raise _does_not_fit(err) from err
        return _without(
            subset(budget.max_samples), f"the torch twin does not run: {err}", "NO_TWIN"
        )
    if oracle is None:
        return _without(attack_set, reason, "TWIN_MISMATCH")
    oracle.smooth_hard_steps(WIDTH)
    warnings = [Warned(code="TWIN_APPROXIMATE", text=reason)] if reason else []
    if len(attack_set) < min(budget.usual_samples, runtime.dataset.num_samples):
        text = _few_samples(budget, len(attack_set), runtime.dataset.num_samples)
        warnings.append(Warned(code="FEW_ATTACK_SAMPLES", text=text))
    return TwinStatus(oracle, attack_set, None, tuple(warnings), operations)


def _few_samples(budget: Budget, count: int, num_samples: int) -> str:
    """Say that the arithmetic of the network left few samples to make patterns on."""
    return (
        f"The network is large: at effort {budget.effort} patterns were made on {count} of"
        f" {num_samples} samples, since the usual {budget.usual_samples} would take more than"
        f" {budget.usual_operations:.0e} floating-point operations. Every chip reported is scored"
        " on all samples; patterns made on more samples may be worse (--attack-samples, or a higher"
        " --effort)."
    )


def _does_not_fit(err: Exception) -> MemoryShortError:
    return MemoryShortError(
        f"memory must hold the torch twin and its gradients, got less: {err} (search); free memory,"
        " or use another --device-type"
    )


def _running_twin(runtime: Runtime) -> tuple[Twin, float, dict[str, str]]:
    """Return the twin and the floating-point operations of one sample's forward run.

    A node whose torch form fails on the samples runs outside as well; they are returned with the
    reasons.
    """
    failed: dict[str, str] = {}
    while True:
        twin = _compiled(runtime, failed)
        try:
            return twin, operations_per_sample(twin, runtime), failed
        except TwinRunError as err:
            if is_about_memory(err):
                raise _does_not_fit(err) from err
            if not err.node or err.node in failed or len(failed) >= _MOST_FAILED:
                raise
            failed[err.node] = str(err)


def _compiled(
    runtime: Runtime, failed: Mapping[str, str], crossbars: StraightCrossbars | None = None
) -> Twin:
    """Return the twin of the deployed network, its crossbar nodes those of a chip if given."""
    twin = to_torch(
        _twin_model(runtime),
        weight_names=runtime.deployed.weight_names,
        outputs=[runtime.engine.output],
        outside=True,
        forced=failed,
        wrapped=_wrappers(runtime, crossbars),
        values=stored_tensors(runtime.at_hand),
    )
    twin.straight_through = True
    return twin


def _wrappers(runtime: Runtime, crossbars: StraightCrossbars | None) -> dict[str, Wrapper]:
    """Return by name of a node what its kernel becomes where the profile has converters."""
    if crossbars is not None:
        return crossbars.wrappers()
    return offset_wrappers(runtime.engine) if isinstance(runtime.engine, KernelEngine) else {}


def _bit_lines(runtime: Runtime) -> tuple[StraightCrossbars | None, str]:
    """Return the crossbars of a chip, or why the twin has to do without."""
    if not isinstance(runtime.engine, KernelEngine):
        return None, ""
    crossbars = StraightCrossbars(runtime.engine)
    if crossbars.num_bytes <= planned_memory():
        return crossbars, ""
    return None, (
        f" They would take {crossbars.num_bytes / 1e9:.2g} GB beside those that chips are scored"
        f" on, and {planned_memory() / 1e9:.2g} GB may be taken."
    )


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


def _without(attack_set: Int64[np.ndarray, "samples"], reason: str, code: str) -> TwinStatus:
    text = (
        f"{reason[:1].upper()}{reason[1:]}. Only gradient-free members searched; they find far"
        " less."
    )
    return TwinStatus(None, attack_set, reason, (Warned(code=code, text=text),))


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
        " scores by ArgMax or ArgMin"
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
