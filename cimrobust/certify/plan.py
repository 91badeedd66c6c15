"""A network as a list of bounded operators between its inputs and the scores decided on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from jaxtyping import Shaped
from torch import Tensor

from cimrobust.certify.expand import expanded
from cimrobust.certify.patterns import recognised
from cimrobust.certify.planned_tensors import PlannedTensors
from cimrobust.certify.quantisers_in_row import OTHER_LEVELS, has_other_levels_in_front
from cimrobust.certify.refusal import NotBoundedError
from cimrobust.certify.rules.affine import Affine
from cimrobust.certify.rules.max_pool import MaxPool
from cimrobust.certify.rules.product import MatrixProduct
from cimrobust.certify.rules.rule import Rule
from cimrobust.certify.tensor_kinds import ACTIVE, KNOWN
from cimrobust.twin.ops.twin_step import Step

if TYPE_CHECKING:
    from cimrobust.certify.each_sample import EachSample
    from cimrobust.twin.ops.converter_registry import Node
    from cimrobust.twin.to_torch import Twin


@dataclass(frozen=True)
class PlannedStep:
    """One operator.

    Attributes:
        step: Kernel, names of inputs and outputs.
        rule: How it is bounded; None: it is computed, its inputs are known.
        kind: Of its output: ``known``, ``weight`` (stored weights, moved) or ``active``.
        depth: Products with stored weights on the longest way from the inputs, its own included.
    """

    step: Step
    rule: Rule | None
    kind: str
    depth: int

    @property
    def node(self) -> Node:
        """The node."""
        return self.step.node

    @property
    def output(self) -> str:
        """Name of the tensor it makes."""
        return self.step.node.outputs[0]


@dataclass(frozen=True)
class Plan:
    """A network that can be bounded.

    Attributes:
        steps: Operators in the order in which they run.
        constants: What constants alone decide, by name, float64 and int64.
        weight_names: Stored weights.
        inputs: Names of the graph inputs.
        tensor: Name of the tensor that decisions are read from.
        num_in_time: Steps that recurrent layers and loops were written out to.
        operators: How often each operator is bounded.
    """

    steps: tuple[PlannedStep, ...]
    constants: Mapping[str, Shaped[Tensor, "..."]]
    weight_names: tuple[str, ...]
    inputs: tuple[str, ...]
    tensor: str
    num_in_time: int = 0

    @cached_property
    def read_once(self) -> frozenset[str]:
        """Tensors that one operator reads, and nothing else."""
        reads = Counter(name for step in self.steps for name in step.node.inputs if name)
        return frozenset(
            name for name, count in reads.items() if count == 1 and name != self.tensor
        )

    @cached_property
    def last_reads(self) -> tuple[tuple[str, ...], ...]:
        """Tensors that no later step reads, by step; that of the decisions is never among them."""
        last = {
            name: index
            for index, step in enumerate(self.steps)
            for name in (*step.node.inputs, *step.node.outputs)
            if name and name != self.tensor
        }
        found: list[list[str]] = [[] for _ in self.steps]
        for name, index in last.items():
            found[index].append(name)
        return tuple(tuple(names) for names in found)

    @cached_property
    def product_behind(self) -> dict[str, str]:
        """Outputs of matrix products by the names of tensors shifted or moved from them.

        The outputs themselves are included.
        """
        found: dict[str, str] = {}
        for step in self.steps:
            source = next((found[name] for name in step.node.inputs if name in found), None)
            if isinstance(step.rule, MatrixProduct) and step.kind == ACTIVE:
                found[step.output] = step.output
            elif source is not None and isinstance(step.rule, Affine):
                found[step.output] = source
        return found

    @property
    def operators(self) -> dict[str, int]:
        """Bounded operators and how often they occur."""
        names = sorted(
            step.node.op for step in self.steps if step.rule is not None and step.kind == ACTIVE
        )
        return {name: names.count(name) for name in dict.fromkeys(names)}


def make_plan(
    twin: Twin, tensor: str, *, known: Collection[str] = (), each: EachSample | None = None
) -> Plan:
    """Return the plan of a tensor of a network.

    Args:
        twin: The network in float64.
        tensor: What decisions are read from.
        known: Weights of the twin that do not deviate; their values are given with those of the
            inputs.
        each: What one run takes, where a batch is planned as runs of one sample; None: every
            tensor has its samples in front.

    Raises:
        NotBoundedError: Operators have no rule; names all of them.
    """
    constants = twin.constants()
    stored = tuple(name for name in twin.weight_names if name not in known)
    shapes = {
        name: tuple(value.shape) for name, value in (*constants.items(), *twin.weights.items())
    }
    parts, unexpanded = expanded(twin.steps_to(tensor), shapes)
    num_in_time = 0
    if each is not None:
        lifted = each.steps(parts, {**constants, **twin.weights}, tensor)
        parts, num_in_time = lifted.steps, lifted.num_in_time
        unexpanded |= lifted.reasons
    tensors = PlannedTensors.of(parts, constants, known=known, stored=stored, inputs=twin.inputs)
    steps: list[PlannedStep] = []
    problems: list[str] = []
    makers = {name: step.node for step in parts for name in step.node.outputs if name}
    for step in recognised(parts, constants, tensor):
        node, kind = step.node, tensors.kind_made(step.node)
        rule, reason = (None, "") if kind == KNOWN else tensors.rule_of(step)
        if kind != KNOWN and has_other_levels_in_front(node, makers, constants):
            rule, reason = None, OTHER_LEVELS
        if kind != KNOWN and rule is None:
            reason = unexpanded.get(node.outputs[0], reason)
            problems.append(f"{node.name} ({node.op}): {reason}")
        steps.append(PlannedStep(step, rule, kind, tensors.note(node, kind)))
    if problems:
        raise NotBoundedError(f"operators without a bound: {'; '.join(problems)}", problems)
    return Plan(tuple(steps), constants, stored, tuple(twin.inputs), tensor, num_in_time)


#: Activation functions that never fall, and whose float32 values never fall either.
_RISING = frozenset({"Relu", "LeakyRelu", "Clip"})


def pools_first(plan: Plan) -> Plan:
    """Return the plan with maxima taken in front of activation functions instead of behind them.

    A function that never falls commutes with a maximum exactly, so every tensor behind both keeps
    its value. There are fewer maxima than elements, and in a window with one
    element above zero for sure no ReLU is bent, whatever the others do.
    """
    steps = list(plan.steps)
    for index, step in enumerate(steps):
        behind = next(
            (place for place, other in enumerate(steps) if step.output in other.node.inputs), None
        )
        if (
            step.node.op not in _RISING
            or step.kind != ACTIVE
            or behind is None
            or step.output not in plan.read_once
        ):
            continue
        pool = steps[behind]
        if not isinstance(pool.rule, MaxPool) or not pool.rule.is_dense:
            continue
        source, between = step.node.inputs[0], f"{step.output}, before {step.node.name}"
        steps[index] = _renamed(pool, source, between)
        steps[behind] = _renamed(step, between, pool.output)
    return replace(plan, steps=tuple(steps))


def _renamed(step: PlannedStep, source: str, output: str) -> PlannedStep:
    node = replace(step.node, inputs=(source, *step.node.inputs[1:]), outputs=(output,))
    return replace(step, step=replace(step.step, node=node))
