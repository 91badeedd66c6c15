"""A deployed network made ready to be bounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from cimrobust.available_memory import is_about_memory
from cimrobust.certify.backward import batch_bytes, form_cost, lower_bound
from cimrobust.certify.batch_memory import MOST_SAMPLES, refuse_box, refuse_size, sized
from cimrobust.certify.counted_decisions import CountedDecisions
from cimrobust.certify.decision_margins import Reading, reading_of
from cimrobust.certify.each_sample import EachSample, sample_tensors
from cimrobust.certify.engine_constants import with_engine_constants
from cimrobust.certify.interval import Interval
from cimrobust.certify.plan import Plan, make_plan, pools_first
from cimrobust.certify.propagate import forwards_bytes, propagate
from cimrobust.certify.recurrent_steps import RECURRENT
from cimrobust.certify.refusal import CannotBoundError, NotBoundedError, Refusal
from cimrobust.certify.samples_apart import check_samples_somewhere, has_samples_in_front
from cimrobust.certify.tensor_kinds import ACTIVE
from cimrobust.data.task import Task
from cimrobust.device.distribution import excluded_probability
from cimrobust.errors import CimrobustError
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.unrolled_loops import unrolled
from cimrobust.twin.stored_tensors import stored_tensors
from cimrobust.twin.to_torch import Twin, to_torch

if TYPE_CHECKING:
    from cimrobust.device.profile import DeviceProfile
    from cimrobust.engine.open import Runtime


@dataclass(frozen=True)
class BoundedNetwork:
    """A network, its box and its samples, ready to be bounded.

    Attributes:
        plan: Operators between the inputs and the scores.
        reading: How decisions are read from the scores.
        task: How a score counts decisions.
        decisions: The decisions that are bounded, in their order.
        placement: Stored weights and their box.
        inputs: Samples by graph input, floating-point ones in float64.
        constants: Graph inputs that are the same for all samples.
        twin: The network in float64, to look for chips that break a sample; None: of a regression,
            or no linear bounds will be asked for.
        cost: Multiplications that linear bounds of one decision take in one box, about.
        has_axis: The network's own tensors have an axis of samples; without one no chips are looked
            for.
        batch: Decisions that are bounded together at most.
    """

    plan: Plan
    reading: Reading
    task: Task
    decisions: CountedDecisions
    placement: Placement
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]]
    constants: Mapping[str, Shaped[Tensor, "..."]]
    twin: Twin | None
    cost: float = 0.0
    has_axis: bool = True
    batch: int = MOST_SAMPLES

    @property
    def num_decisions(self) -> int:
        """Decisions there are; of a regression: samples."""
        return len(self.decisions.samples)

    def weights(self, scale: float) -> dict[str, Interval]:
        """Return the box of every stored weight, every deviation multiplied by a factor.

        Ends are exact in float64 up to one rounding; that a chip holds the float32 nearest to its
        weight is among the roundings charged to products.
        """
        boxes = {}
        for name, tensor in self.placement.tensors.items():
            nominal, lo, hi = (
                np.asarray(array, np.float64) for array in (tensor.nominal, *tensor.limits())
            )
            boxes[name] = Interval(
                torch.from_numpy(nominal + scale * lo), torch.from_numpy(nominal + scale * hi)
            )
        return boxes

    def in_batches(
        self, indices: Int64[np.ndarray, "decisions"]
    ) -> Iterator[Int64[np.ndarray, "batch"]]:
        """Yield decisions in batches, in their order."""
        for start in range(0, len(indices), self.batch):
            yield indices[start : start + self.batch]

    def batches(
        self, indices: Int64[np.ndarray, "decisions"]
    ) -> Iterator[tuple[Int64[np.ndarray, "batch"], dict[str, Shaped[Tensor, "batch ..."]]]]:
        """Yield decisions in batches: their indices, and the inputs of their samples, each once."""
        for some in self.in_batches(indices):
            samples = torch.from_numpy(self.decisions.together(some)[0])
            yield some, {name: tensor[samples] for name, tensor in self.inputs.items()}


def open_bounds(
    runtime: Runtime, placement: Placement, *, most_cost: float = math.inf
) -> BoundedNetwork | Refusal:
    """Make a deployed network ready to be bounded, or say why it cannot be.

    Args:
        runtime: The deployed network with its data.
        placement: Where its weights are stored.
        most_cost: `BoundedNetwork.cost` above which no linear bounds will be asked for, so that
            their memory is not needed.
    """
    refused = _refuse(runtime, placement)
    if refused is not None:
        return refused
    try:
        network = _planned(runtime, placement)
    except NotBoundedError as err:
        return err.refusal
    except CimrobustError as err:
        return Refusal(f"the network has no form that can be bounded: {err}")
    return _tried(network, runtime, most_cost)


def _refuse(runtime: Runtime, placement: Placement) -> Refusal | None:
    """Return why no network on such devices, or run in such a way, is bounded; None where it is."""
    # Converters are those of the chip, whatever devices its layers have.
    refused = refuse_converters(placement.profile) or next(
        filter(None, map(refuse_profile, placement.profiles)), None
    )
    if refused is not None:
        return refused
    if runtime.engine is not runtime.plain or set(placement.tensors) != set(
        runtime.deployed.weight_names
    ):
        return Refusal(
            "the chip computes more than products of activations and programmed weights, which is"
            " all that the bounds cover"
        )
    feeding = runtime.plain.feeding
    if feeding.mode == "fixed" and feeding.size > 1:
        return Refusal(
            f"the network takes exactly {feeding.size} samples a run, and bounds are of runs of any"
            " number or of one"
        )
    if feeding.mode == "none" and runtime.task.decision.read == "label":
        return Refusal("labels of a network without an axis of samples are not followed")
    return refuse_box(sum(tensor.num_weights for tensor in placement.tensors.values()))


def _planned(runtime: Runtime, placement: Placement) -> BoundedNetwork:
    """Return a network with its plan, not tried yet.

    Raises:
        CimrobustError: It has no twin, or no plan.
    """
    dataset, task, output = runtime.dataset, runtime.task, runtime.plain.output
    whole, mode = runtime.at_hand.model, runtime.plain.feeding.mode
    model = unrolled(whole)
    in_loops = len(model.graph.node) - len(whole.graph.node)
    twin = to_torch(
        with_engine_constants(model, runtime, runtime.deployed.weight_names),
        weight_names=runtime.deployed.weight_names,
        outputs=[output],
        values=stored_tensors(runtime.at_hand),
    ).double()
    inputs = {name: _tensor(array) for name, array in dataset.inputs.items()}
    constants = {name: _tensor(array) for name, array in dataset.constants.items()}
    twin.straight_through = True
    has_axis = mode != "none"
    reading = reading_of(twin, task, output, _shapes_in(twin, inputs, constants, has_axis=has_axis))
    plan = _plan_of(twin, reading.tensor, inputs, constants, mode)
    return BoundedNetwork(
        pools_first(replace(plan, num_in_time=plan.num_in_time + in_loops)),
        reading,
        task,
        CountedDecisions.of(task),
        placement,
        inputs,
        constants,
        twin,
        has_axis=has_axis,
    )


def _plan_of(
    twin: Twin,
    tensor: str,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    mode: str,
) -> Plan:
    """Return the plan of a tensor, for batches; as runs of one sample where it has to be.

    Args:
        twin: The network in float64.
        tensor: What decisions are read from.
        inputs: Samples by graph input.
        constants: Graph inputs that are the same for all samples.
        mode: `Feeding.mode` of the network.

    Raises:
        NotBoundedError: There is none.
    """
    if mode == "free":
        steps = twin.steps_to(tensor)
        names = sample_tensors(steps, inputs)
        if not any(step.node.op in RECURRENT for step in steps):
            plan = make_plan(twin, tensor)
            active = {step.output for step in plan.steps if step.kind == ACTIVE}
            names = [name for name in names if name in active] or [tensor]
            if has_samples_in_front(twin, inputs, constants, names):
                return plan
        check_samples_somewhere(twin, inputs, constants, names)
    has_axis = mode != "none"
    one = {name: samples[:1] if has_axis else samples[0] for name, samples in inputs.items()}
    return make_plan(twin, tensor, each=EachSample(one, constants, has_axis))


def _shapes_in(
    twin: Twin,
    inputs: Mapping[str, Shaped[Tensor, "samples ..."]],
    constants: Mapping[str, Shaped[Tensor, "..."]],
    *,
    has_axis: bool,
) -> Callable[[str], torch.Size]:
    """Return what gives the shape that a tensor has for one sample, the axis of samples counted."""

    def shape(tensor: str) -> torch.Size:
        first = {name: array[:1] if has_axis else array[0] for name, array in inputs.items()}
        with torch.no_grad():
            made = twin({**first, **constants}, outputs=[tensor])[tensor]
        return made.shape if has_axis else torch.Size((1, *made.shape))

    return shape


def _tried(network: BoundedNetwork, runtime: Runtime, most_cost: float) -> BoundedNetwork | Refusal:
    """Bound one sample roughly.

    Some rules find out from shapes and parameters alone that they do not hold, and sizes say what a
    bound costs.

    A rule that fails on a shape nobody thought of costs the bound, and the certificate says so; it
    does not cost what else was found.
    """
    plan = network.plan
    try:
        state = propagate(
            plan,
            {name: tensor[:1] for name, tensor in network.inputs.items()},
            network.constants,
            network.weights(1.0),
            effort=0.0,
        )
        scores = state.interval(plan.tensor)
        is_error = network.reading.kind == "value"
        forms = (
            max(1, scores.lo[0].numel() - 1)
            if is_error
            else network.reading.num_forms(scores.lo.shape)
        )
        cost = float(form_cost(state)) * forms
        is_linear = cost <= most_cost
        bytes_of = partial(batch_bytes if is_linear else forwards_bytes, state)
        batch, needed = sized(bytes_of, has_one_each=not network.decisions.positions.any())
        refused = refuse_size(batch, needed)
        if refused is not None:
            return refused
        if is_linear:
            lower_bound(state, plan.tensor, torch.ones_like(scores.lo)[None])
    except CannotBoundError as err:
        return Refusal(f"the network has no form that can be bounded: {err}")
    except (RuntimeError, IndexError, ValueError) as err:
        if is_about_memory(err):
            return Refusal(f"the bound needs more memory than there is: {err}")
        return Refusal(
            "a rule of the bounds fails on a tensor of this network, which is a fault of this tool"
            f" ({type(err).__name__}: {err}); report this"
        )
    if network.twin is not None and not _holds_nominal(network, network.twin, scores):
        return Refusal(
            "its bounds leave out the chip without deviations, which is a fault of this tool;"
            " report this"
        )
    if plan.tensor == runtime.plain.output and not _holds_engine(runtime, network, scores):
        return Refusal(
            "onnxruntime gives the chip without deviations other scores than exact arithmetic does,"
            " further off than rounding takes them; report this to onnxruntime"
        )
    asks_chips = is_linear and network.reading.kind != "value" and network.has_axis
    twin = network.twin if asks_chips else None
    return replace(network, cost=cost, twin=twin, batch=batch)


@torch.no_grad()
def _holds_nominal(network: BoundedNetwork, twin: Twin, scores: Interval) -> bool:
    """Return whether bounds of the first sample hold the scores of the chip without deviations.

    They do if every rule fits the tensors that it is given.
    """
    has_axis = network.has_axis
    first = {name: tensor[:1] if has_axis else tensor[0] for name, tensor in network.inputs.items()}
    nominal = {
        name: torch.tensor(tensor.nominal) for name, tensor in network.placement.tensors.items()
    }
    tensor = network.plan.tensor
    made = twin({**first, **network.constants}, nominal, [tensor])[tensor]
    made = made if has_axis else made[None]
    slack = 1e-6 * (1.0 + made.abs())
    return not bool(((made < scores.lo - slack) | (made > scores.hi + slack)).any())


def _holds_engine(runtime: Runtime, network: BoundedNetwork, scores: Interval) -> bool:
    """Return whether bounds of the first sample hold the scores that the engine gives it."""
    first = {name: array[:1] for name, array in runtime.dataset.inputs.items()}
    made = runtime.plain.run(network.placement.nominal(), first, runtime.dataset.constants)
    given = torch.from_numpy(np.asarray(made, np.float64)).reshape(scores.lo.shape)
    return bool(((scores.lo <= given) & (given <= scores.hi)).all())


def refuse_converters(profile: DeviceProfile) -> Refusal | None:
    """Return why products through the converters of a profile are out of reach.

    None where there are none.
    """
    if profile.dac is not None or profile.adc is not None:
        return Refusal(
            "the profile has converters, which the bounds do not cover: a rounded sum can be"
            " anywhere within a step"
        )
    if profile.read_noise is not None:
        return Refusal(
            "the profile has read noise, which differs from read to read and has no limits"
        )
    return None


def refuse_profile(profile: DeviceProfile) -> Refusal | None:
    """Return why no bound holds for all devices of a profile; None where the box holds them all."""
    if profile.has_faults:
        return Refusal("the profile has stuck devices, which lie outside the tolerance box")
    if not profile.is_bounded:
        share = excluded_probability(profile)
        return Refusal(
            f"a device may end outside the tolerance box, with probability {share:.3g}, and no"
            " bound holds for a chip that has one"
        )
    return None


def _tensor(array: Shaped[np.ndarray, "*shape"]) -> Shaped[Tensor, "*shape"]:
    tensor = torch.from_numpy(np.array(array))
    return tensor.double() if tensor.is_floating_point() else tensor
