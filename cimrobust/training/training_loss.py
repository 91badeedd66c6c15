"""What training minimises: the loss of a task on logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn import functional

from cimrobust.data.decision import IGNORED
from cimrobust.search.readout import Readout, decisive

if TYPE_CHECKING:
    from cimrobust.data.task import Task

_SMALLEST = 1e-12


@dataclass(frozen=True)
class Objective:
    """The loss of a task.

    Attributes:
        kind: ``classes``: cross-entropy; ``teacher``: scores of the clean model; ``value``: squared
            error (absolute for ``mae``).
        scale: ``teacher``: typical margin between the teacher's best two scores; ``value``: typical
            size of a target, so that losses are near 1.
        spread: ``teacher``: variance of the teacher's scores.
        metric: Error metric of a regression.
        k: A decision is right where the label is among so many highest scores; the losses want it
            to be the highest.
    """

    kind: Literal["classes", "teacher", "value"]
    scale: float = 1.0
    spread: float = 1.0
    metric: str = ""
    k: int = 1

    def loss(
        self, logits: Float[Tensor, "decisions classes"], targets: Shaped[Tensor, "samples ..."]
    ) -> Float[Tensor, ""]:
        """Return the mean loss.

        Args:
            logits: [decisions that are counted, classes], or [values, 1] for a regression.
            targets: Labels int64, targets float32, or the teacher's logits; samples first.
        """
        return self.each(logits, targets).mean()

    def each(
        self, logits: Float[Tensor, "decisions classes"], targets: Shaped[Tensor, "samples ..."]
    ) -> Float[Tensor, "decisions"]:
        """Return the loss of every decision; arguments as for `loss`."""
        if self.kind == "classes":
            return functional.cross_entropy(
                logits, self.labels(targets, logits.shape[1]), reduction="none"
            )
        if self.kind == "value":
            error = (logits[:, 0] - targets.reshape(-1)) / self.scale
            return error.abs() if self.metric == "mae" else error**2
        teacher = targets.reshape(logits.shape)
        # The scores themselves, and the choice among them: margins may be far smaller than scores.
        # Classes that the teacher masks out with -infinity have no part in either.
        chosen = torch.isfinite(teacher)
        near = torch.where(chosen, logits - teacher, 0.0).square().mean(1) / self.spread
        wanted = functional.softmax(teacher / self.scale, dim=1)
        choice = -torch.where(
            chosen, wanted * functional.log_softmax(logits / self.scale, dim=1), 0.0
        ).sum(1)
        return near + choice

    def labels(
        self, targets: Shaped[Tensor, "samples ..."], num_classes: int
    ) -> Shaped[Tensor, "decisions"]:
        """Return what the decisions that are counted are scored against, flat.

        Labels, the teacher's decisions, or targets.
        """
        if self.kind == "teacher":
            return targets.reshape(-1, num_classes).argmax(1)
        return targets[counted_of(targets)]

    def decisive(
        self, logits: Float[Tensor, "decisions classes"], targets: Shaped[Tensor, "samples ..."]
    ) -> tuple[Float[Tensor, "decisions seen"], Int64[Tensor, "decisions"]]:
        """Return decisive logits and the labels, see `readout.decisive`.

        In them, the label is highest exactly if the decision is correct.
        """
        labels = self.labels(targets, logits.shape[1])
        return decisive(logits, labels, k=self.k), labels


def counted_of(targets: Shaped[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Return which of the targets of samples are counted, bool in their shape.

    Those that are no labels are.
    """
    return (
        torch.ones_like(targets, dtype=torch.bool)
        if targets.is_floating_point()
        else targets != IGNORED
    )


def objective_of(
    task: Task, readout: Readout, teacher: Float[np.ndarray, "samples positions classes"] | None
) -> tuple[Objective, Shaped[Tensor, "samples ..."]]:
    """Return the loss of a task and the targets of all samples.

    Args:
        task: The task with all labels.
        readout: How logits are read.
        teacher: Rows of the clean model, [samples, decisions, classes], where it is the teacher;
            None: labels are true.
    """
    if task.is_regression:
        targets = torch.from_numpy(np.asarray(task.labels, np.float32)).reshape(
            len(task.labels), -1
        )
        typical = (
            float(targets.abs().mean())
            if task.metric == "mae"
            else float(targets.std(unbiased=False))
        )
        return Objective("value", scale=max(typical, _SMALLEST), metric=task.metric), targets
    labels = torch.from_numpy(np.asarray(task.labels, np.int64)).reshape(len(task.labels), -1)
    if teacher is None:
        return Objective("classes", k=task.decision.k), labels
    logits = torch.from_numpy(np.asarray(teacher, np.float32))
    best = logits.topk(2, dim=-1).values
    apart = best[..., 0] - best[..., 1]
    margin, seen = (
        float(apart[torch.isfinite(apart)].median().nan_to_num(0.0)),
        logits[torch.isfinite(logits)],
    )
    spread = max(float(seen.var(unbiased=False)), _SMALLEST)
    return (
        Objective("teacher", scale=max(margin, _SMALLEST), spread=spread, k=task.decision.k),
        logits,
    )
