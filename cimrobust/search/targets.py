"""Classes that decisions are easily pushed to."""

from __future__ import annotations

import numpy as np
import torch

from cimrobust.search.problem import Problem
from cimrobust.search.torch_patterns import array_of


def nearest_classes(problem: Problem) -> list[int]:
    """Return the classes that are most often just behind the label, nearest first."""
    assert problem.oracle is not None
    rows, labels = problem.nominal_rows, problem.oracle.labels
    behind = torch.nan_to_num(
        rows - rows.gather(1, labels[:, None]), nan=-1e30, neginf=-1e30, posinf=1e30
    )
    scale = float(behind.abs().median()) or 1.0
    nearness = torch.exp(torch.clamp(behind / scale, -50, 0)).double().mean(dim=0)
    return [int(target) for target in np.argsort(-array_of(nearness), kind="stable")]
