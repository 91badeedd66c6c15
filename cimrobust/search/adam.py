"""Adam, as `torch.optim.Adam` computes it on a processor, to the last bit.

Any optimiser of torch imports its compiler, which takes longer than a quick search of a small
network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_MEAN_DECAY, _SQUARE_DECAY = 0.9, 0.999
_EPSILON = 1e-8


class Adam:
    """Moves tensors against their gradients, each element by about the rate.

    References:
        D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    def __init__(self, tensors: Sequence[Float[Tensor, "..."]], rate: float) -> None:
        self._tensors = tensors
        self._rate = rate
        self._means = [torch.zeros_like(tensor) for tensor in tensors]
        self._squares = [torch.zeros_like(tensor) for tensor in tensors]
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Float[Tensor, "..."]]) -> None:
        """Move every tensor in place, once.

        Args:
            gradients: One a tensor, of its shape.
        """
        self._steps += 1
        rate = self._rate / (1 - _MEAN_DECAY**self._steps)
        root = (1 - _SQUARE_DECAY**self._steps) ** 0.5
        for tensor, gradient, mean, square in zip(
            self._tensors, gradients, self._means, self._squares, strict=True
        ):
            mean.lerp_(gradient, 1 - _MEAN_DECAY)
            square.mul_(_SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - _SQUARE_DECAY)
            tensor.addcdiv_(mean, (square.sqrt() / root).add_(_EPSILON), value=-rate)
