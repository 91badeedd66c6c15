"""Which devices to verify more tightly.

Rankings by what the worst case gains from a device, and the baselines they have to beat.

Every ranking is one score a device, larger first. All know what a device's range in its weight is,
so that none wins merely because it takes significant slices first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from cimrobust.search.torch_patterns import array_of, tensors_of

if TYPE_CHECKING:
    from cimrobust.device_level.tightening import Tightening
    from cimrobust.mapping.box import Pattern
    from cimrobust.search.losses import Loss
    from cimrobust.search.scorer import Scorer

#: Makes the random stream of a name.
Random = Callable[..., np.random.Generator]

_DRAWS = 16
# Shares of the way to an attacked point at which curvature is taken.
_ON_THE_WAY = (0.25, 0.5)
# Shares of devices that are verified before the box is attacked again, in this order.
_ATTACKED_SHARES = (0.2, 0.05, 0.2, 0.05)


def by_gain(
    scorer: Scorer, tightening: Tightening, attacked: Sequence[Pattern], losses: Sequence[Loss]
) -> Float64[np.ndarray, "devices"]:
    """Rank by the harm that a device can do near attacked points.

    Mean |gradient of a loss in the weight| times the range that verification takes away.

    Every gradient is scaled to the same sum of harms first, so that no loss or point drowns the
    others.

    Args:
        scorer: Gradients.
        tightening: The devices.
        attacked: Bad patterns.
        losses: Losses that gradients are taken of; one pass a pattern and loss.
    """
    total = np.zeros(tightening.space.size)
    for pattern in attacked:
        for loss in losses:
            harm = slope(scorer, tightening, pattern, loss) * tightening.saved_range
            total += harm / (harm.sum() or 1.0)
    return total


def by_worst_curvature(
    scorer: Scorer,
    tightening: Tightening,
    attacked: Sequence[Pattern],
    attack: Callable[[Float64[np.ndarray, "devices"], float], Pattern],
    random: Random,
) -> Float64[np.ndarray, "devices"]:
    """Rank by second derivatives where the worst case lies, and attack again as devices are taken.

    Curvature at the quantised weights tells what matters to decisions that are still correct, as in
    `by_curvature`; half way to attacked points it tells what matters once an attack is under way.
    Then the devices ranked first are verified, the box that is left is attacked, and curvature at
    and half way to the pattern found is added: what an attacker would use next. All parts count the
    same.

    Args:
        scorer: Gradients.
        tightening: The devices.
        attacked: Bad patterns of the full box.
        attack: Returns the worst pattern found when a share of the devices, ranked by a score, is
            verified.
        random: Makes random streams by name.
    """
    parts = [_curvature(scorer, tightening, scorer.problem.box.zero(), random, "nominal", _DRAWS)]
    half = [
        _curvature(
            scorer,
            tightening,
            _scaled(pattern, share),
            random,
            f"way {index} {share}",
            _DRAWS // 2,
        )
        for index, pattern in enumerate(attacked)
        for share in _ON_THE_WAY
    ]
    parts.append(np.mean(half, axis=0))
    for number, share in enumerate(_ATTACKED_SHARES):
        pattern = attack(np.sum(parts, axis=0), share)
        again = [
            _curvature(
                scorer,
                tightening,
                _scaled(pattern, reach),
                random,
                f"again {number} {reach}",
                _DRAWS // 2,
            )
            for reach in (0.5, 1.0)
        ]
        parts.append(np.mean(again, axis=0))
    return np.asarray(np.sum(parts, axis=0))


def by_magnitude(tightening: Tightening) -> Float64[np.ndarray, "devices"]:
    """Rank by the magnitude of the weight, times the device's range."""
    tensors = tightening.space.placement.tensors
    size = tightening.space.of_weights(
        {name: np.abs(tensor.nominal) for name, tensor in tensors.items()}
    )
    return np.asarray(size * tightening.saved_range / np.square(tightening.space.largest_weight))


def at_random(
    tightening: Tightening, generator: np.random.Generator
) -> Float64[np.ndarray, "devices"]:
    """Rank in random order."""
    return generator.random(tightening.space.size)


def by_slice(
    tightening: Tightening, generator: np.random.Generator
) -> Float64[np.ndarray, "devices"]:
    """Rank by the range of the device as a share of the largest weight of its layer.

    Equal ones in random order: no knowledge of the network.
    """
    share = tightening.saved_range / tightening.space.largest_weight
    return np.asarray(share * (1.0 + 1e-3 * generator.random(share.size)))


def by_curvature(
    scorer: Scorer, tightening: Tightening, random: Random, *, draws: int = _DRAWS
) -> Float64[np.ndarray, "devices"]:
    """Rank as SWIM does.

    Second derivative of the loss in the weight, here times the square of the range, since the
    expected harm is ``H sigma^2 / 2``.

    The diagonal is that of the Gauss-Newton matrix of the cross-entropy (regression: of the squared
    error) at the quantised weights, estimated without bias: a draw sums
    ``e_x v_x . z_x`` over the samples x, with signs e of probability one half and v the softmax
    minus a class drawn from it (regression: 1), and squares its gradient. Any twin
    has such gradients; SWIM's own layer rules give the same for networks of linear layers and ReLU
    up to the correlations they drop.

    Args:
        scorer: Gradients.
        tightening: The devices.
        random: Makes random streams by name.
        draws: Passes spent.

    References:
        Yan, Hu, Shi, "SWIM: selective write-verify for computing-in-memory neural accelerators",
        DAC 2022, arXiv 2202.08395, section 3.
    """
    return _curvature(scorer, tightening, scorer.problem.box.zero(), random, "nominal", draws)


def slope(
    scorer: Scorer,
    tightening: Tightening,
    pattern: Mapping[str, Float32[np.ndarray, "..."]],
    loss: Loss,
) -> Float32[np.ndarray, "devices"]:
    """Return |gradient of a loss| in the weight of every device, float32 [devices]."""
    gradients = _gradients(scorer, dict(pattern), loss)
    return np.asarray(
        tightening.space.of_weights(
            {name: np.abs(gradient) for name, gradient in gradients.items()}
        )
    )


def _gradients(
    scorer: Scorer, pattern: Pattern, loss: Loss
) -> dict[str, Float32[np.ndarray, "..."]]:
    evaluation = scorer.evaluate(
        tensors_of(pattern, scorer.oracle.device), loss, scorer.scale_at(pattern, loss)
    )
    return {name: array_of(gradient) for name, gradient in evaluation.gradients.items()}


def _curvature(
    scorer: Scorer,
    tightening: Tightening,
    pattern: Pattern,
    random: Random,
    name: str,
    draws: int,
) -> Float64[np.ndarray, "devices"]:
    """Return the Gauss-Newton diagonal at a pattern times the squared range, float64 [devices].

    Scaled to a sum of 1; one pass a draw.
    """
    point = tensors_of(pattern, scorer.oracle.device)
    total = {key: np.zeros(array.shape) for key, array in pattern.items()}
    for index in range(draws):
        scorer.ledger.spend_pass("curvature")
        for key, gradient in scorer.oracle.logit_gradients(
            point, _random_direction(scorer, random(name, index))
        ).items():
            total[key] += np.square(array_of(gradient).astype(np.float64))
    harm = tightening.space.of_weights(total) * np.square(tightening.saved_range, dtype=np.float64)
    return np.asarray(harm / (harm.sum() or 1.0))


def _scaled(pattern: Mapping[str, Float32[np.ndarray, "..."]], share: float) -> Pattern:
    return {
        name: (np.float32(share) * deviation).astype(np.float32)
        for name, deviation in pattern.items()
    }


def _random_direction(
    scorer: Scorer, generator: np.random.Generator
) -> Callable[[Float[Tensor, "samples classes"], slice], Float[Tensor, "samples"]]:
    """Return a function whose squared gradient is the Gauss-Newton diagonal on average."""
    count = scorer.oracle.labels.numel()
    signs = torch.from_numpy(generator.integers(0, 2, size=count) * 2.0 - 1.0).float()
    chances = torch.from_numpy(generator.random(count)).float()

    def function(
        logits: Float[Tensor, "samples classes"], positions: slice
    ) -> Float[Tensor, "samples"]:
        sign, chance = signs[positions].to(logits.device), chances[positions].to(logits.device)
        if scorer.problem.task.is_regression:
            return sign * logits[:, 0] * math.sqrt(2.0)
        with torch.no_grad():
            likely = torch.softmax(logits, dim=1)
            drawn = torch.searchsorted(likely.cumsum(dim=1), chance[:, None]).clamp(
                max=logits.shape[1] - 1
            )
        # The gradient of -log softmax[drawn] in the logits is softmax - onehot(drawn), whose
        # covariance is the Hessian of the cross-entropy.
        likelihood: Float[Tensor, "samples"] = torch.log_softmax(logits, dim=1).gather(1, drawn)[
            :, 0
        ]
        return -sign * likelihood

    return function
