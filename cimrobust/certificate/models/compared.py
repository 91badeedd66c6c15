"""Diagnostics of several certificates side by side: before re-training, the control, and after it."""

from __future__ import annotations

from cimrobust.certificate.models.base import Block, Count


class ToleranceScores(Block):
    """What one network is known to score at one tolerance; null where that was not searched for, or not bounded."""

    worst_found: float | None
    certified: float | None


class ToleranceRow(Block):
    """One tolerance; at those of a bisection alone one network was attacked, not all. `control` is null without a control."""

    tolerance: float
    is_stated: bool
    is_bisection: bool
    before: ToleranceScores
    control: ToleranceScores | None
    after: ToleranceScores

    def by_role(self) -> dict[str, ToleranceScores | None]:
        """Return the scores of all networks by their role."""
        return {"before": self.before, "control": self.control, "after": self.after}


class ToleranceSummary(Block):
    """One network: why it has no worst scores or no certified curve, and up to which tolerance no chip was found that misses the requirement, which is no proof."""

    reason: str | None
    required: float | None
    required_by: str | None
    unrefuted: float | None
    refuted: float | None
    certified_samples: Count
    certified_reason: str | None


class ToleranceComparison(Block):
    """Worst score found on all samples, and certified score on the first `certified_samples` of each network, over the write-verify tolerance, smallest first."""

    stated: float
    rows: list[ToleranceRow]
    before: ToleranceSummary
    control: ToleranceSummary | None
    after: ToleranceSummary

    def networks(self) -> dict[str, ToleranceSummary]:
        """Return what is said of each network by its role; without a control two of them."""
        stated = {"before": self.before, "control": self.control, "after": self.after}
        return {role: summary for role, summary in stated.items() if summary is not None}


class LayerScores(Block):
    """Worst scores found when this layer alone deviates, and when all others do; the latter null where there are none."""

    alone: float
    others: float | None


class LayerRow(Block):
    """One stored layer; null for a network whose certificate has no attack on it, or without a control."""

    initializer: str
    trained: bool
    before: LayerScores | None
    control: LayerScores | None
    after: LayerScores | None

    def by_role(self) -> dict[str, LayerScores | None]:
        """Return the scores of all networks by their role."""
        return {"before": self.before, "control": self.control, "after": self.after}


class LayerComparison(Block):
    """Which layers are fragile, the most fragile alone before training first; `reasons` tells by network why it has no attacks."""

    rows: list[LayerRow]
    reasons: dict[str, str]
