"""Which devices to verify more tightly: rankings by what the worst case gains from a device, and the baselines they have to beat.

Every ranking is one score a device, larger first. All know what a device's range in its weight is, so that none wins merely because it takes significant slices first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cimrobust.diagnose.tightening import Tightening
from cimrobust.search.box import Pattern, tensors_of
from cimrobust.search.objective import Loss
from cimrobust.search.problem import Problem

_DRAWS = 16


def by_gain(problem: Problem, tightening: Tightening, attacked: Sequence[Pattern], losses: Sequence[Loss]) -> np.ndarray:
    """Rank by the harm that a device can do near attacked points: mean |gradient of a loss in the weight| times the range that verification takes away.

    Every gradient is scaled to the same sum of harms first, so that no loss or point drowns the others.

    Args:
        problem: Gradients.
        tightening: The devices.
        attacked: Bad patterns.
        losses: Losses that gradients are taken of; one pass a pattern and loss.
    """
    total = np.zeros(tightening.space.size)
    for pattern in attacked:
        for loss in losses:
            harm = slope(problem, tightening, pattern, loss) * tightening.saved_range
            total += harm / (harm.sum() or 1.0)
    return total


def by_use(problem: Problem, tightening: Tightening, attacked: Sequence[Pattern], losses: Sequence[Loss]) -> np.ndarray:
    """Rank by what devices did on the way to attacked points: integrated gradient along the straight way, times the deviation.

    A device that an attack does not need, though the gradient at its end is large, comes later than in `by_gain`.

    References:
        Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", ICML 2017, arXiv 1703.01365, equation 1; here of weights, not of inputs.
    """
    total = np.zeros(tightening.space.size)
    for pattern in attacked:
        for loss in losses:
            harm = np.zeros(tightening.space.size)
            for share in (0.25, 0.5, 0.75, 1.0):
                moved = {name: (np.float32(share) * deviation).astype(np.float32) for name, deviation in pattern.items()}
                gradients = _gradients(problem, moved, loss)
                size = {name: np.abs(gradients[name]) for name in gradients}
                helps = {name: np.maximum(np.sign(gradients[name] * pattern[name]), 0.25) * size[name] for name in size}
                harm += tightening.space.of_weights(helps) * tightening.saved_range
            total += harm / (harm.sum() or 1.0)
    return total


def by_magnitude(tightening: Tightening) -> np.ndarray:
    """Rank by the magnitude of the weight, times the device's range."""
    tensors = tightening.space.placement.tensors
    size = tightening.space.of_weights({name: np.abs(tensor.nominal) for name, tensor in tensors.items()})
    return size * tightening.saved_range / np.square(tightening.space.largest_weight)


def at_random(tightening: Tightening, generator: np.random.Generator) -> np.ndarray:
    """Rank in random order."""
    return generator.random(tightening.space.size)


def by_slice(tightening: Tightening, generator: np.random.Generator) -> np.ndarray:
    """Rank by the range of the device as a share of the largest weight of its layer, equal ones in random order: no knowledge of the network."""
    share = tightening.saved_range / tightening.space.largest_weight
    return share * (1.0 + 1e-3 * generator.random(share.size))


def by_curvature(
    problem: Problem, tightening: Tightening, draw: Callable[[int], np.random.Generator], *, draws: int = _DRAWS
) -> np.ndarray:
    """Rank as SWIM does: second derivative of the loss in the weight, here times the square of the range, since the expected harm is ``H sigma^2 / 2``.

    The diagonal is that of the Gauss-Newton matrix of the cross-entropy (regression: of the squared error) at the quantised weights, estimated without bias: a draw sums
    ``e_x v_x . z_x`` over the samples x, with signs e of probability one half and v the softmax minus a class drawn from it (regression: 1), and squares its gradient. Any twin
    has such gradients; SWIM's own layer rules give the same for networks of linear layers and ReLU up to the correlations they drop.

    Args:
        problem: Gradients.
        tightening: The devices.
        draw: Random stream of a draw.
        draws: Passes spent.

    References:
        Yan, Hu, Shi, "SWIM: selective write-verify for computing-in-memory neural accelerators", DAC 2022, arXiv 2202.08395, section 3.
    """
    assert problem.oracle is not None
    zero = tensors_of(problem.box.zero())
    total: dict[str, np.ndarray] = {}
    for index in range(draws):
        function = _random_direction(problem, draw(index))
        problem.passes += 1
        for name, gradient in problem.oracle.pull_back(zero, function).items():
            total[name] = total.get(name, 0.0) + np.square(gradient.cpu().double().numpy())
    curvature = tightening.space.of_weights({name: square / draws for name, square in total.items()})
    return curvature * np.square(tightening.saved_range)


def slope(problem: Problem, tightening: Tightening, pattern: Mapping[str, np.ndarray], loss: Loss) -> np.ndarray:
    """Return |gradient of a loss| in the weight of every device, float32 [devices]."""
    gradients = _gradients(problem, dict(pattern), loss)
    return tightening.space.of_weights({name: np.abs(gradient) for name, gradient in gradients.items()})


def _gradients(problem: Problem, pattern: Pattern, loss: Loss) -> dict[str, np.ndarray]:
    evaluation = problem.step(tensors_of(pattern), loss, problem.scale_at(pattern, loss))
    return {name: gradient.cpu().numpy() for name, gradient in evaluation.gradients.items()}


def _random_direction(problem: Problem, generator: np.random.Generator) -> Callable[[Tensor, slice], Tensor]:
    """Return the function of rows whose squared gradient has the Gauss-Newton diagonal as its mean."""
    assert problem.oracle is not None
    count = problem.oracle.labels.numel()
    signs = torch.from_numpy(generator.integers(0, 2, size=count) * 2.0 - 1.0).float()
    chances = torch.from_numpy(generator.random(count)).float()

    def function(rows: Tensor, positions: slice) -> Tensor:
        sign, chance = signs[positions].to(rows.device), chances[positions].to(rows.device)
        if problem.task.is_regression:
            return sign * rows[:, 0] * 2.0**0.5
        with torch.no_grad():
            likely = torch.softmax(rows, dim=1)
            drawn = torch.searchsorted(likely.cumsum(dim=1), chance[:, None]).clamp(max=rows.shape[1] - 1)
        # The gradient of -log softmax[drawn] in the rows is softmax - onehot(drawn), whose covariance is the Hessian of the cross-entropy.
        return -sign * torch.log_softmax(rows, dim=1).gather(1, drawn)[:, 0]

    return function
