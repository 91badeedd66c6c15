"""What a plan knows of the tensors that its steps have made so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaxtyping import Shaped
from torch import Tensor

from cimrobust.certify.given_tensors import element_types, given_rule, is_exact, makes_integers
from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rule_choice import rule_of, steps_read
from cimrobust.certify.rules.rule_table import SHAPE_OPS
from cimrobust.certify.tensor_kinds import ACTIVE, KNOWN, WEIGHT

if TYPE_CHECKING:
    from cimrobust.certify.rules.rule import Rule
    from cimrobust.twin.ops.converter_registry import Node
    from cimrobust.twin.ops.twin_step import Step

_INT64 = 7


@dataclass(frozen=True)
class PlannedTensors:
    """Tensors in front of the next step.

    Attributes:
        constants: Values of the network that are the same for all samples.
        givens: Tensors that no chip changes.
        kinds: ``known``, ``weight`` or ``active``, by name.
        depths: Products with stored weights on the longest way from the inputs, by name.
        level_steps: Sums of the steps of the levels that tensors are computed from, by name.
    """

    constants: Mapping[str, Shaped[Tensor, "..."]]
    givens: _Givens
    kinds: dict[str, str]
    depths: dict[str, int] = field(default_factory=dict)
    level_steps: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def of(
        steps: Iterable[Step],
        constants: Mapping[str, Shaped[Tensor, "..."]],
        *,
        known: Collection[str],
        stored: Collection[str],
        inputs: Collection[str],
    ) -> PlannedTensors:
        """Return what is there before the first step.

        Args:
            steps: All steps.
            constants: Values of the network.
            known: Weights that do not deviate.
            stored: Weights that do.
            inputs: Graph inputs; those that are constants too are the same for all samples.
        """
        fixed = {*constants, *known, *inputs}
        kinds = (
            dict.fromkeys((*constants, *known), KNOWN)
            | dict.fromkeys(stored, WEIGHT)
            | dict.fromkeys(inputs, ACTIVE)
            | dict.fromkeys((name for name in inputs if name in constants), KNOWN)
        )
        givens = _Givens(element_types(steps), set(fixed), set(fixed), set(inputs))
        return PlannedTensors(constants, givens, kinds)

    def kind_made(self, node: Node) -> str:
        """Return the kind of what a node makes."""
        read = _read(node)
        reads = self._kinds_of(read)
        kind = (
            ACTIVE
            if ACTIVE in reads or self.givens.varying.intersection(read)
            else WEIGHT
            if WEIGHT in reads
            else KNOWN
        )
        return KNOWN if node.op in SHAPE_OPS or self.givens.is_known(node, kind) else kind

    def rule_of(self, step: Step) -> tuple[Rule | None, str]:
        """Return the rule of a step, and why there is none."""
        read = _read(step.node)
        rule, reason = None, ""
        try:
            rule = rule_of(step, self._kinds_of(read), self.constants, self._steps_of(read))
        except CannotBoundError as err:
            reason = str(err)
        return self.givens.rule(step, rule), reason

    def note(self, node: Node, kind: str) -> int:
        """Remember what a node makes, and return its depth."""
        read = _read(node)
        self.givens.note(node, kind)
        stays_float = kind == ACTIVE and WEIGHT in self._kinds_of(read)
        depth = max((self.depths.get(name, 0) for name in read), default=0) + stays_float
        level_steps = 0.0 if stays_float else steps_read(node, self.constants, self._steps_of(read))
        for name in node.outputs:
            self.kinds[name], self.depths[name] = kind, depth
            self.level_steps[name] = level_steps
        return depth

    def _kinds_of(self, names: list[str]) -> list[str]:
        return [self.kinds.get(name, KNOWN) for name in names]

    def _steps_of(self, names: list[str]) -> float:
        return sum(self.level_steps.get(name, 0.0) for name in names)


def _read(node: Node) -> list[str]:
    """Return the names of what a node reads."""
    return [name for name in (*node.inputs, *node.captures) if name]


@dataclass(frozen=True)
class _Givens:
    """Tensors that no chip changes.

    Attributes:
        types: Element types of tensors.
        exact: Those whose values are exact.
        names: All of them.
        varying: Those of them that differ from sample to sample.
    """

    types: dict[str, int]
    exact: set[str]
    names: set[str]
    varying: set[str]

    def is_known(self, node: Node, kind: str) -> bool:
        """Return whether a node makes integers, or whether something holds, of exact values.

        Computed, never bounded.
        """
        return (
            kind == ACTIVE
            and self._reads(node, self.exact)
            and makes_integers(node, self.types)
            and is_exact(node, self.types)
        )

    def rule(self, step: Step, own: Rule | None) -> Rule | None:
        """Return the rule of a node: of what is given, or its own, None where it has neither."""
        if not self._reads(step.node, self.names):
            return own
        return (
            given_rule(step, self.types, own, reads_exact=self._reads(step.node, self.exact)) or own
        )

    def note(self, node: Node, kind: str) -> None:
        """Remember what a node makes."""
        if node.op in SHAPE_OPS:
            self.names.update(node.outputs)
            self.exact.update(node.outputs)
        if kind == WEIGHT or not self._reads(node, self.names):
            return
        self.names.update(node.outputs)
        if makes_integers(node, self.types):
            self.types.setdefault(node.outputs[0], _INT64)
        if node.op not in SHAPE_OPS and self.varying.intersection(node.inputs):
            self.varying.update(node.outputs)
        if kind == KNOWN or (self._reads(node, self.exact) and is_exact(node, self.types)):
            self.exact.update(node.outputs)

    def _reads(self, node: Node, names: Collection[str]) -> bool:
        return all(name in names for name in node.inputs if name)
