"""A network as a list of bounded operators between its inputs and the scores that are decided on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from cimrobust.certify.refusal import CannotBoundError, NotBoundedError
from cimrobust.certify.rules.affine import Affine
from cimrobust.certify.rules.base import Rule
from cimrobust.certify.rules.product import MatrixProduct
from cimrobust.certify.rules.table import RULES, SHAPE_OPS
from cimrobust.graph.ops.program import Step
from cimrobust.graph.ops.registry import Node
from cimrobust.graph.to_torch import Twin

KNOWN, WEIGHT, ACTIVE = "known", "weight", "active"


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

    @property
    def label(self) -> str:
        """Name and operator, for messages."""
        domain = f"{self.node.domain}::" if self.node.domain else ""
        return f"{self.node.name} ({domain}{self.node.op})"


@dataclass(frozen=True)
class Plan:
    """A network that can be bounded.

    Attributes:
        steps: Operators in the order in which they run.
        constants: What constants alone decide, by name, float64 and int64.
        weight_names: Stored weights.
        inputs: Names of the graph inputs.
        tensor: Name of the tensor that decisions are read from.
        operators: How often each operator is bounded.
    """

    steps: tuple[PlannedStep, ...]
    constants: Mapping[str, Tensor]
    weight_names: tuple[str, ...]
    inputs: tuple[str, ...]
    tensor: str

    @cached_property
    def read_once(self) -> frozenset[str]:
        """Tensors that one operator reads, and nothing else."""
        reads = Counter(name for step in self.steps for name in step.node.inputs if name)
        return frozenset(name for name, count in reads.items() if count == 1 and name != self.tensor)

    @cached_property
    def product_behind(self) -> dict[str, str]:
        """Outputs of matrix products by the names of tensors that are shifted or moved from them, those themselves included."""
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
        names = sorted(step.node.op for step in self.steps if step.rule is not None and step.kind == ACTIVE)
        return {name: names.count(name) for name in dict.fromkeys(names)}


def make_plan(twin: Twin, tensor: str, *, known: Collection[str] = ()) -> Plan:
    """Return the plan of a tensor of a network.

    Args:
        twin: The network in float64.
        tensor: What decisions are read from.
        known: Weights of the twin that do not deviate; their values are given with those of the inputs.

    Raises:
        NotBoundedError: Operators have no rule; names all of them.
    """
    constants = twin.constants()
    stored = tuple(name for name in twin.weight_names if name not in known)
    kinds = dict.fromkeys((*constants, *known), KNOWN) | dict.fromkeys(stored, WEIGHT) | dict.fromkeys(twin.inputs, ACTIVE)
    kinds = {**kinds, **dict.fromkeys((name for name in twin.inputs if name in constants), KNOWN)}
    depths: dict[str, int] = {}
    steps: list[PlannedStep] = []
    problems: list[str] = []
    for step in twin.steps_to(tensor):
        node = step.node
        read = [name for name in node.inputs if name]
        reads = [kinds.get(name, KNOWN) for name in read]
        kind = ACTIVE if ACTIVE in reads else WEIGHT if WEIGHT in reads else KNOWN
        if node.op in SHAPE_OPS:
            kind = KNOWN
        rule: Rule | None = None
        if kind != KNOWN:
            try:
                rule = _rule_of(step, reads)
            except CannotBoundError as err:
                problems.append(f"{node.name} ({node.op}): {err}")
        depth = max((depths.get(name, 0) for name in read), default=0) + (kind == ACTIVE and WEIGHT in reads)
        for name in node.outputs:
            kinds[name], depths[name] = kind, depth
        steps.append(PlannedStep(step, rule, kind, depth))
    if problems:
        raise NotBoundedError(f"operators without a bound: {'; '.join(problems)}", problems)
    return Plan(tuple(steps), constants, stored, tuple(twin.inputs), tensor)


def _rule_of(step: Step, reads: list[str]) -> Rule:
    """Return the rule of a node.

    Raises:
        CannotBoundError: There is none, or not for such inputs.
    """
    node = step.node
    maker = RULES.get(node.op) if node.domain in ("", "com.microsoft") else None
    if maker is None:
        raise CannotBoundError("no bound is built in for this operator")
    if len([name for name in node.outputs if name]) != 1:
        raise CannotBoundError("it has several outputs")
    active, weights = reads.count(ACTIVE), reads.count(WEIGHT)
    if node.op in ("Conv", "Gemm", "MatMul"):
        if reads[0] != ACTIVE or active > 1:
            raise CannotBoundError("it multiplies activations by activations, or has its weight on the left")
    elif node.op in ("Mul", "Div"):
        if active + weights > 1 or (node.op == "Div" and reads[0] == KNOWN):
            raise CannotBoundError("it multiplies or divides by something that is not constant")
    elif active and weights:
        raise CannotBoundError("it mixes stored weights with activations")
    elif node.op not in ("Add", "Sub", "Concat") and reads[1:].count(ACTIVE):
        raise CannotBoundError("a parameter of it is not constant")
    return maker(node, step.kernel)


@torch.no_grad()
def check_samples_apart(plan: Plan, twin: Twin, inputs: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> None:
    """Check that every tensor has its samples in front and that no sample depends on another.

    Raises:
        NotBoundedError: One does not.
    """
    names = [step.output for step in plan.steps if step.kind == ACTIVE] or [plan.tensor]
    count = min(5, *(len(tensor) for tensor in inputs.values()))
    together = twin({**{name: tensor[:count] for name, tensor in inputs.items()}, **constants}, outputs=names)
    for size in dict.fromkeys((1, min(3, count))):
        part = twin({**{name: tensor[:size] for name, tensor in inputs.items()}, **constants}, outputs=names)
        for name in names:
            whole, some = together[name], part[name]
            if whole.shape[:1] != (count,) or some.shape[:1] != (size,):
                raise NotBoundedError(f"tensor '{name}' of shape {list(whole.shape)} must have its {count} samples along the first axis")
            if not torch.allclose(whole[:size], some, rtol=1e-6, atol=1e-9 * (1.0 + float(whole.abs().max()))):
                raise NotBoundedError(f"tensor '{name}' must not depend on other samples of its batch")
