"""Thresholds are of the metric that they are meant for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cimrobust.errors import UsageError

if TYPE_CHECKING:
    from cimrobust.certificate.policy import Policy

_OF_SCORES = frozenset({"clean_accuracy", "worst_found_accuracy", "certified_accuracy", "kpp"})


def require_named_metric(policy: Policy, metric: str, *, higher_is_better: bool) -> None:
    """Refuse to read an accuracy that is asked for as an error that is allowed.

    An accuracy of 0.95 as a root mean square error of 0.95 would pass networks that nobody meant.

    Args:
        policy: The policy.
        metric: Metric of the network that it is about.
        higher_is_better: Direction of that metric.

    Raises:
        UsageError: The metric is an error, and the policy does not say that its thresholds are.
    """
    stated = None if policy.conditions is None else policy.conditions.metric
    asked = [row.id for row in policy.rows if row.kind in _OF_SCORES]
    if higher_is_better or stated is not None or not asked:
        return
    raise UsageError(
        f"policy must name the metric that its thresholds are of, got {', '.join(asked[:3])} for a"
        f" network that is scored by {metric}, where less is better (--policy); state"
        f' conditions.metric = "{metric}", and every accuracy is the largest {metric} allowed'
    )
