"""Stored weights of a deployed network as its twin holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

if TYPE_CHECKING:
    from cimrobust.onnx_io.deployed import Deployed


def stored_tensors(deployed: Deployed) -> dict[str, Float32[Tensor, "..."]]:
    """Return the weights of the file where the deployed model has none for them, else nothing.

    They are `values` of `to_torch`.
    """
    late = deployed.late_weights or {}
    return {name: torch.from_numpy(np.array(late[name])) for name in late}
