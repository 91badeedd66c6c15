"""A policy: what a certificate has to show before a network may be shipped.

It also states under which conditions the certificate counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from cimrobust.certificate.policy_tables import (
    EFFORTS,
    Conditions,
    CostTable,
    ItemTable,
    KppRequirement,
    RequireRow,
    RequireTable,
    SafetyRequirement,
    Table,
)
from cimrobust.certificate.vacuous import asks_nothing
from cimrobust.errors import UsageError
from cimrobust.input_file import printable
from cimrobust.montecarlo.anytime import Target
from cimrobust.montecarlo.stopping import StopRule
from cimrobust.settings_file import read_settings

__all__ = ["EFFORTS", "KppRequirement", "Policy", "SafetyRequirement", "read_policy", "stop_rule"]


def _form(value: Any) -> str:
    return "<rows>" if isinstance(value, list) else "<table>"


Requirements = Annotated[
    Annotated[RequireTable, Tag("<table>")]
    | Annotated[list[RequireRow], Field(min_length=1, max_length=10_000), Tag("<rows>")],
    Discriminator(_form),
]


class Policy(Table):
    """A policy file."""

    item: ItemTable | None = None
    """What the network is part of; the certificate repeats it."""
    conditions: Conditions | None = None
    """Under which conditions evidence counts: what was made under others passes nothing."""
    require: Requirements
    """What a certificate has to show: `[[require]]` rows, or one table of the older form."""
    cost: CostTable | None = None
    """Costs of wrong decisions; 1 each where it is left out."""

    @model_validator(mode="after")
    def _ids_differ(self) -> Policy:
        ids = [row.id for row in self.rows]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"ids of requirements must differ, got '{twice[0]}' more than once")
        return self

    @property
    def rows(self) -> list[RequireRow]:
        """All requirements on scores, in the order of the file, whichever form it has."""
        return self.require.rows() if isinstance(self.require, RequireTable) else self.require

    @property
    def effort(self) -> str | None:
        """Least effort that the older form requires.

        The conditions of today's form are apart from it.
        """
        return self.require.effort if isinstance(self.require, RequireTable) else None

    @property
    def least_effort(self) -> str | None:
        """Least effort of the search that is asked in either form; None: any."""
        asked = [
            effort
            for effort in (self.effort, None if self.conditions is None else self.conditions.effort)
            if effort is not None
        ]
        return max(asked, key=EFFORTS.index, default=None)

    @property
    def percentiles(self) -> list[KppRequirement]:
        """All percentile requirements."""
        return [row.kpp for row in self.rows if row.kpp is not None]

    @property
    def safety_class(self) -> SafetyRequirement | None:
        """The first requirement on the recall of one class; None: there is none."""
        return next((row.safety_class for row in self.rows if row.safety_class is not None), None)

    def thresholds(self, kind: str) -> Iterator[float]:
        """Yield the thresholds of all requirements of a kind, see `policy_tables.KINDS`."""
        yield from (row.threshold for row in self.rows if row.kind == kind)

    def strictest(self, kind: str, *, higher_is_better: bool) -> float | None:
        """Return the strictest threshold of a kind; None: no requirement asks it."""
        return (max if higher_is_better else min)(self.thresholds(kind), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as plain values, without what it leaves open."""
        return self.model_dump(exclude_none=True)


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        UsageError: It is wrong, or a requirement asks for nothing; names file and every wrong key.
    """
    policy = read_settings(path, Policy, what="policy")
    empty = [
        f"'{row.id}': {reason}" for row in policy.rows if (reason := asks_nothing(row, policy.cost))
    ]
    if empty:
        raise UsageError(
            f"policy must ask for something in every requirement, got {'; '.join(empty)}"
            f" ({printable(path)}); state what is needed, or leave the requirement out"
        )
    if not policy.rows and policy.effort is None:
        raise UsageError(
            f"policy must have at least one requirement, got none ({printable(path)}); add one"
        )
    return policy


def stop_rule(policy: Policy, *, higher_is_better: bool) -> StopRule:
    """Return when a run of trials may stop early.

    As soon as the policy's percentile requirements are decided.

    Raises:
        UsageError: The policy has none.
    """
    if not policy.percentiles:
        raise UsageError(
            "a run that may stop early needs a percentile requirement, got a policy without"
            " (--policy, [require] kpp); add one"
        )
    return StopRule(
        tuple(
            Target(float(asked.k), asked.confidence, asked.accuracy) for asked in policy.percentiles
        ),
        higher_is_better=higher_is_better,
    )
