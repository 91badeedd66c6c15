"""Diagnostics of several certificates side by side.

They are those before re-training, of the control, and after re-training.
"""

from __future__ import annotations

from cimrobust.records import Count, Record


class ToleranceScores(Record):
    """What one network is known to score at one tolerance.

    Null where that was not searched for, or not bounded.
    """

    worst_found: float | None
    """Worst score found; null: not searched for."""
    certified: float | None
    """Certified score; null: not bounded."""


class ToleranceRow(Record):
    """One tolerance; at those of a bisection alone one network was attacked, not all.

    `control` is null without a control.
    """

    tolerance: float
    """Write-verify tolerance, fraction of the full conductance range."""
    is_stated: bool
    """Whether it is the tolerance of the profile."""
    is_bisection: bool
    """Whether only the bisection of one network asked for it."""
    before: ToleranceScores
    """The network as it was."""
    control: ToleranceScores | None
    """The control; null: there is none."""
    after: ToleranceScores
    """The re-trained network."""

    def by_role(self) -> dict[str, ToleranceScores | None]:
        """Return the scores of all networks by their role."""
        return {"before": self.before, "control": self.control, "after": self.after}


class ToleranceSummary(Record):
    """What the scores over the tolerance show for one network.

    Why it has no worst scores or no certified curve, and up to which tolerance no chip was found
    that misses the requirement, which is no proof.
    """

    reason: str | None
    """Why there are no worst scores over the tolerance."""
    required: float | None
    """Score that the bisection asked for."""
    required_by: str | None
    """Who asks for it."""
    unrefuted: float | None
    """Largest tolerance at which no chip was found that misses it."""
    refuted: float | None
    """Smallest tolerance at which one was found."""
    certified_samples: Count
    """Samples of the certified curve, the first ones."""
    certified_reason: str | None
    """Why there is no certified curve."""


class ToleranceComparison(Record):
    """Worst score found and certified score of each network over the write-verify tolerance.

    The worst score is found on all samples, the certified score holds on the first
    `certified_samples`. The smallest tolerance comes first.
    """

    stated: float
    """Write-verify tolerance of the profile, fraction of the full conductance range."""
    rows: list[ToleranceRow]
    """Scores by tolerance, ascending."""
    before: ToleranceSummary
    """The network as it was."""
    control: ToleranceSummary | None
    """The control; null: there is none."""
    after: ToleranceSummary
    """The re-trained network."""

    def networks(self) -> dict[str, ToleranceSummary]:
        """Return what is said of each network by its role; without a control two of them."""
        stated = {"before": self.before, "control": self.control, "after": self.after}
        return {role: summary for role, summary in stated.items() if summary is not None}


class LayerScores(Record):
    """Worst scores found when this layer alone deviates, and when all others do.

    The latter null where there are none.
    """

    alone: float
    """Worst score found when this layer alone deviates."""
    others: float | None
    """Worst score found when all but this layer deviate; null: not searched for."""


class LayerRow(Record):
    """One stored layer.

    Null for a network whose certificate has no attack on it, or without a control.
    """

    initializer: str
    """Name of the initializer in the graph."""
    trained: bool
    """Whether the re-training changed it."""
    before: LayerScores | None
    """The network as it was."""
    control: LayerScores | None
    """The control; null: there is none."""
    after: LayerScores | None
    """The re-trained network."""

    def by_role(self) -> dict[str, LayerScores | None]:
        """Return the scores of all networks by their role."""
        return {"before": self.before, "control": self.control, "after": self.after}


class LayerComparison(Record):
    """Which layers are fragile, the most fragile alone before training first.

    `reasons` tells by network why it has no attacks.
    """

    rows: list[LayerRow]
    """Layers, the most fragile alone before training first."""
    reasons: dict[str, str]
    """By network, why it has no attacks on single layers."""
