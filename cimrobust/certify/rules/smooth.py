"""Smooth activation functions.

Both lines have the slope of the chord. Their intercepts are the extremes of ``f(x) - slope x``,
taken over a grid: between two neighbours at distance h a function whose second derivative is at
most B in magnitude leaves the chord by at most ``B h^2 / 8``. Points at which the derivative jumps
are made grid points.

Sound for any slope: f(x) - slope x has the second derivative of f, so between grid points it is at
most ``B h^2 / 8`` beyond the larger of its neighbours.

References:
    E. Sueli, D. F. Mayers, "An introduction to numerical analysis", Cambridge 2003, theorem 6.2
    with n = 1: ``|f - p| <= B |x - x_0| |x - x_1| / 2``, whose maximum is at the middle.
    H. Zhang et al., "Efficient neural network robustness certification with general activation
    functions", NeurIPS 2018, section 3.3 (lines by tangents instead).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from cimrobust.certify.refusal import CannotBoundError
from cimrobust.certify.rounding import line_radius
from cimrobust.certify.rules.relaxation import Activation, Lines, chord

if TYPE_CHECKING:
    from cimrobust.twin.ops.converter_registry import Kernel, Node

_CELLS = 32


@dataclass(frozen=True)
class Shape:
    """What has to be known of a function.

    Attributes:
        curvature: Bound of the magnitude of its second derivative, where it has one.
        jumps: Where its first derivative jumps.
        is_rising: It never falls.
        steepness: Bound of the magnitude of its first derivative.
        error: Absolute error of float32 implementations for inputs of magnitude 1 and less, growing
            with the magnitude beyond; measured on onnxruntime at a seventh of this or less, see
            tests/unit/certify/test_float32.py.
    """

    curvature: float
    jumps: tuple[float, ...] = ()
    is_rising: bool = True
    steepness: float = 1.2
    error: float = 2.0**-19


#: tanh'' is at most 4 sqrt(3) / 9; the sigmoid's is an eighth of it; gelu'' = phi(x) (2 - x^2);
#: silu'' is at most 1/2, atan'' 3 sqrt(3) / 8; sin'' and cos'' are at most 1. By hand, rounded up;
#: tests/unit/certify/test_rules.py holds all of them against derivatives on a fine grid.
SHAPES: dict[str, Shape] = {
    "Sigmoid": Shape(0.0963, steepness=0.25),
    "Tanh": Shape(0.77, steepness=1.0),
    "Softplus": Shape(0.25, steepness=1.0),
    "Erf": Shape(0.97, steepness=1.13),
    "Celu": Shape(1.0, jumps=(0.0,)),
    "Elu": Shape(1.0, jumps=(0.0,)),
    "Selu": Shape(1.76, jumps=(0.0,), steepness=1.76),
    "Softsign": Shape(2.0, jumps=(0.0,)),
    "HardSwish": Shape(1.0 / 3.0, jumps=(-3.0, 3.0), is_rising=False, steepness=1.51),
    "Gelu": Shape(0.8, is_rising=False, steepness=1.14),
    "Mish": Shape(1.0, is_rising=False, steepness=1.1),
    "Sin": Shape(1.0, is_rising=False, steepness=1.0),
    "Cos": Shape(1.0, is_rising=False, steepness=1.0),
    "Atan": Shape(0.65, steepness=1.0),
    "Swish": Shape(0.51, is_rising=False, steepness=1.1),
}


def smooth(node: Node, kernel: Kernel) -> Activation:
    """Return the rule of a function of `SHAPES`.

    Raises:
        CannotBoundError: Its parameters make it another function than the one whose derivatives are
            known.
    """
    if (
        (node.op == "Elu" and not 0.0 <= node.get("alpha", 1.0) <= 1.0)
        or (node.op in ("Selu", "Swish") and node.attributes)
        or (node.op == "Celu" and node.get("alpha", 1.0) != 1.0)
    ):
        raise CannotBoundError("bounds of its derivatives are known for its usual parameters alone")
    shape = SHAPES[node.op]

    def reach(
        run: Kernel, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
    ) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
        if shape.is_rising:
            return run(lo), run(hi)
        values, _grid, room = _sampled(run, shape, lo, hi)
        return values.amin(0) - room, values.amax(0) + room

    def lines(lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]) -> Lines:
        slope = chord(kernel(lo), kernel(hi), lo, hi)
        values, grid, room = _sampled(kernel, shape, lo, hi)
        off = values - slope * grid
        return Lines(slope, off.amin(0) - room, slope, off.amax(0) + room)

    return Activation(
        kernel,
        reach,
        lines,
        bends=lambda lo, hi: lo < hi,
        rounding=lambda size: shape.error * size.clamp(min=1.0),
        is_rising=shape.is_rising,
    )


def _sampled(
    run: Kernel, shape: Shape, lo: Float[Tensor, "*shape"], hi: Float[Tensor, "*shape"]
) -> tuple[Float[Tensor, "cells *shape"], Float[Tensor, "cells *shape"], Float[Tensor, "*shape"]]:
    """Return values on a grid over an interval, the grid, and the excess between its points.

    The excess is how far the function may be beyond the values of neighbours.
    """
    shares = torch.linspace(0.0, 1.0, _CELLS + 1, dtype=lo.dtype).reshape(-1, *(1,) * lo.dim())
    grid = lo + shares * (hi - lo)
    grid[-1] = hi
    if shape.jumps:
        grid = torch.cat(
            [grid, torch.stack([torch.full_like(lo, jump).clamp(lo, hi) for jump in shape.jumps])]
        )
    cell = (hi - lo) / _CELLS
    values = run(grid)
    return (
        values,
        grid,
        shape.curvature * cell * cell / 8.0
        + line_radius(1e-3 + torch.maximum(lo.abs(), hi.abs()) * 4.0),
    )
