"""Planes above maxima where differences are known better than the elements' own ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cimrobust.certify.rules.contest import Contest, below_all

POINTS = 400


def contest_of(x: Tensor, *, slack: Tensor) -> Contest:
    """Return a contest that knows the differences of points, and their ends with a slack alone.

    Args:
        x: [points, samples, channels, taps, positions].
        slack: How much wider the upper ends are, [taps].
    """
    wide = slack[:, None]
    made = Contest.of(x.amin(0), x.amax(0) + wide)
    above = x - (x * made.reference).sum(3, keepdim=True)
    own = made.reference > 0
    below = below_all(x)
    return replace(
        made,
        least=above.amin(0).masked_fill(own, below),
        most=above.amax(0).masked_fill(own, below),
    )


def points(offsets: list[list[float]], spread: list[list[float]]) -> Tensor:
    """Draw points that share most of what they are: [points, 1, channels, taps, 1]."""
    generator = torch.Generator().manual_seed(0)
    shared = 10 * torch.rand(POINTS, 1, len(offsets), 1, 1, generator=generator).double()
    drawn = torch.rand(POINTS, 1, len(offsets), len(offsets[0]), 1, generator=generator).double()
    each = torch.tensor(offsets).double()[..., None] + torch.tensor(spread).double()[..., None] * (
        drawn.round()
    )
    return shared + each


@pytest.mark.parametrize(
    ("offsets", "spread"),
    [
        # The second element is always above the first, which is taken for the reference.
        ([[0.0, 1.9, 0.0]], [[0.0, 0.6, 1.0]]),
        ([[0.0, 1.0, 1.5]], [[0.0, 1.0, 0.3]]),
        ([[0.0, -2.0, -1.0]], [[0.0, 1.0, 0.5]]),
        ([[0.0, 1.9, 0.0], [0.0, -3.0, 4.0]], [[0.0, 0.6, 1.0], [0.0, 9.0, 0.1]]),
    ],
)
def test_a_plane_is_above_the_maximum_of_every_channel(
    offsets: list[list[float]], spread: list[list[float]]
) -> None:
    x = points(offsets, spread)
    contest = contest_of(x, slack=torch.tensor([30.0, 0.0, 0.0]).double())
    assert (contest.reference[0, :, 0] == 1).all()
    slope, shift = contest.plane()
    height = (slope * x).sum(3) + shift
    assert (height >= x.amax(3) - 1e-9).all()
    assert (contest.top() >= x.amax((0, 3)) - 1e-9).all()
    # Differences bound it far better than ends, which are ten apart.
    assert (height - x.amax(3)).max() < 10.0


@pytest.mark.parametrize("channels", [1, 2])
def test_the_maximum_of_one_element_is_itself(channels: int) -> None:
    x = points([[0.0]] * channels, [[1.0]] * channels)
    slope, shift = contest_of(x, slack=torch.zeros(1).double()).plane()
    assert slope.flatten().tolist() == [1.0] * channels
    assert shift.flatten().tolist() == [0.0] * channels


def test_a_reference_without_rivals_is_the_maximum() -> None:
    x = points([[0.0, -3.0, -2.0]], [[0.5, 1.0, 1.0]])
    slope, shift = contest_of(x, slack=torch.zeros(3).double()).plane()
    assert slope.flatten().tolist() == [1.0, 0.0, 0.0]
    assert shift.flatten().tolist() == [0.0]


def test_a_plane_begins_at_the_second_largest_of_all_ends() -> None:
    lo, hi = (torch.tensor(ends).double()[None, None, :, None] for ends in ([0, 0, 0], [9, 4, 2]))
    slope, shift = Contest.of(lo, hi).plane()
    # 4 + (9 - 4) / 9 x: lower at the middles than from below, where it begins at 0.
    torch.testing.assert_close(slope.flatten(), torch.tensor([5 / 9, 0, 0]).double())
    assert shift.item() == 4.0
