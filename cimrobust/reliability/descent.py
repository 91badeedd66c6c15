"""From a start to the nearest failing chip.

Steps of Hasofer, Lind, Rackwitz and Fiessler on a smooth stand-in, then on the event itself.

References:
    Y. Zhang, A. Der Kiureghian, "Two improved algorithms for reliability analysis", in: Reliability
    and Optimization of Structural Systems, 1995 (line search on a merit function).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32, Float64

from cimrobust.engine.latent import LatentChips
from cimrobust.reliability.nearest import NearestChips
from cimrobust.reliability.ray import Crossed, Event, first_failing
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.torch_patterns import array_of

if TYPE_CHECKING:
    from cimrobust.reliability.limit_state import LimitState

# The most chips that one ray may cost; 4 to 8 are usual.
RAY_CHIPS = 40
_HALVINGS = 5
_STANDS_STILL = 0.02
# By how much nearer a chip has to be to count as an improvement.
_NEARER = 0.003
_PROBE = np.float32(0.01)


@dataclass
class Spent:
    """What was spent so far.

    Attributes:
        passes: Forward-backward passes of the twin over the attack set.
        forwards: Forward runs of the twin over them.
        evaluations: Chips run through the deployed network on all samples.
    """

    passes: int = 0
    forwards: int = 0
    evaluations: int = 0

    def go_on(self, spent: Spent) -> None:
        """Take over what an interrupted search had spent."""
        self.passes, self.forwards = spent.passes, spent.forwards
        self.evaluations = spent.evaluations


@dataclass
class DescentContext:
    """What a descent stands on.

    Attributes:
        chips: Makes weights from latents.
        nearest: Solves linear problems.
        oracle: Gradients.
        event: Asked of the deployed network; counts its own evaluations in `spent`.
        advance: Hears of every pass.
        spent: Counts.
    """

    chips: LatentChips
    nearest: NearestChips
    oracle: GradientOracle
    event: Event
    advance: Callable[[], None]
    spent: Spent = field(default_factory=Spent)

    def margins(self, latents: Float32[np.ndarray, "devices"]) -> Float64[np.ndarray, "decisions"]:
        """Return the margins (errors) of a chip by the twin, float64 [decisions]."""
        self.spent.forwards += 1
        return array_of(self.oracle.margins(self.chips.weights(latents)).double())

    def linear(
        self, latents: Float32[np.ndarray, "devices"], state: LimitState, neighbours: int
    ) -> tuple[float, Float32[np.ndarray, "devices"]]:
        """Return the stand-in at a chip and its gradient, float32 [size]: one pass.

        The gradient is with respect to every device's deviation in level units.
        """
        reach = state.at(self.margins(latents), neighbours)
        pulled = self.oracle.margin_gradients(
            self.chips.weights(latents), torch.from_numpy(reach.factors).float()
        )
        self.spent.passes += 1
        self.advance()
        return reach.value, self.chips.pull_back(
            {name: array_of(gradient) for name, gradient in pulled.items()}
        )


def descend(
    context: DescentContext,
    start: Float32[np.ndarray, "devices"],
    state: LimitState,
    *,
    neighbours: int,
    passes: int,
) -> Float32[np.ndarray, "devices"]:
    """Return where the improved HL-RF iteration on the stand-in leads from a start.

    The point need not fail.

    Every step goes towards the nearest chip that the linearised stand-in lets fail, solved with the
    exact quantile functions (`reliability.nearest`), as far as the merit
    ``|u|^2 / 2 + c |value|`` falls enough (Armijo), with ``c = 2 |u| / |gradient|``.

    Args:
        context: Gradients and the event.
        start: Latents, float32 [size].
        state: The stand-in.
        neighbours: Its width.
        passes: Most passes.
    """
    point = start
    for _ in range(passes):
        value, gradient = context.linear(point, state, neighbours)
        target = _target(context, point, gradient, value)
        moved = _line_search(context, point, target, value, gradient, state, neighbours)
        step = float(np.linalg.norm(moved - point))
        point = moved
        if step <= _STANDS_STILL * float(np.linalg.norm(point)):
            break
    return point


def refine(
    context: DescentContext,
    found: Crossed,
    states: Sequence[LimitState],
    *,
    widest: int,
    passes: int,
) -> Crossed:
    """Return the nearest failing chip that steps from a failing one lead to.

    No smoothing decides, only the deployed network.

    A step goes towards the nearest point of the plane through the chip that the stand-in's gradient
    is normal to, and is taken where a chip in that direction, a little nearer than the best
    so far, fails. The width of the stand-in changes where no step does, and then its units.

    Args:
        context: Gradients and the event.
        found: A failing chip.
        states: Stand-ins, in turn.
        widest: Their largest width, in decisions; begun with a quarter of it.
        passes: Most passes.
    """
    widths = [max(widest >> shift, 2) for shift in range(2, 8)]
    widths = sorted(set(widths), reverse=True) if states[0].wrong is not None else [2]
    views = [(state, width) for state in states for width in widths]
    turn, failed, reach = 0, 0, 1.0
    for _ in range(passes):
        if failed >= len(views):
            break
        _, gradient = context.linear(found.latents, *views[turn])
        target = _target(context, found.latents, gradient, 0.0)
        share, nearer = _nearer(context, found, target, min(2.0 * reach, 1.0))
        if nearer is None:
            turn, failed, reach = (turn + 1) % len(views), failed + 1, 0.5
        else:
            found, failed, reach = nearer, 0, share
    return found


def _target(
    context: DescentContext,
    point: Float32[np.ndarray, "devices"],
    gradient: Float32[np.ndarray, "devices"],
    value: float,
) -> Float32[np.ndarray, "devices"]:
    """Return the nearest chip that the plane of a point's value and gradient lets fail."""
    deviations = context.chips.deviations(point)
    least = float(np.dot(gradient.astype(np.float64), deviations.astype(np.float64))) - value
    return context.nearest.solve(gradient, least)[0]


def _line_search(
    context: DescentContext,
    point: Float32[np.ndarray, "devices"],
    target: Float32[np.ndarray, "devices"],
    value: float,
    gradient: Float32[np.ndarray, "devices"],
    state: LimitState,
    neighbours: int,
) -> Float32[np.ndarray, "devices"]:
    rises = (
        context.chips.deviations(point + _PROBE) - context.chips.deviations(point - _PROBE)
    ) / (2 * _PROBE)
    steepness = max(float(np.linalg.norm(gradient * rises)), 1e-30)
    norm = float(np.linalg.norm(point))
    weight = 2.0 * max(norm, float(np.linalg.norm(target))) / steepness
    merit = 0.5 * norm**2 + weight * abs(value)
    slope = float(np.dot(point, target - point)) - weight * abs(value)
    share, moved = 1.0, target
    for _ in range(_HALVINGS):
        moved = point + np.float32(share) * (target - point)
        reached = state.at(context.margins(moved), neighbours).value
        if (
            0.5 * float(np.linalg.norm(moved)) ** 2 + weight * abs(reached)
            <= merit + 1e-4 * share * slope
        ):
            break
        share /= 2
    return moved


def _nearer(
    context: DescentContext, found: Crossed, target: Float32[np.ndarray, "devices"], first: float
) -> tuple[float, Crossed | None]:
    """Return the share of a step at which a nearer chip fails, and that chip; None: at no share."""
    share = first
    for _ in range(_HALVINGS):
        direction = found.latents + np.float32(share) * (target - found.latents)
        norm = float(np.linalg.norm(direction))
        if norm > 0.0:
            tried = direction * np.float32(found.norm * (1.0 - _NEARER) / norm)
            if context.event(tried) <= 0.0:
                crossed = first_failing(context.event, tried, most=RAY_CHIPS)
                if crossed is not None and crossed.norm < found.norm:
                    return share, crossed
        share /= 2
    return share, None
