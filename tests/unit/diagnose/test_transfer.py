"""Transfer to held-out samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.diagnose.sample_transfer import TRANSFER, halves
from cimrobust.diagnose.transfer_result import property_of
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import GivenLimits
from cimrobust.montecarlo.quantile import clopper_pearson_upper


def test_halves_share_out_samples_and_classes(small):
    first, second = halves(small[0].task, 0)
    assert sorted([*first, *second]) == list(range(200))
    counts = [np.bincount(small[0].task.labels[part], minlength=4) for part in (first, second)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert not np.array_equal(halves(small[0].task, 1)[0], first)


def test_a_chip_that_is_bad_for_all_is_a_property_of_the_chip(one_fragile_layer, request_of):
    runtime, placement = one_fragile_layer
    finding = TRANSFER.run(request_of(runtime, placement))
    assert finding.result.property_of == "chip"
    for number, (direction, part) in enumerate(
        zip(finding.result.directions, reversed(halves(runtime.task, 0)), strict=True), start=1
    ):
        weights = box_of(placement).weights(finding.patterns[f"half {number} of the samples"])
        score = runtime.score(weights, subset=part)
        assert (direction.held_out, direction.held_out_samples) == (score.value, len(part))
        assert direction.high == clopper_pearson_upper(score.count, len(part), 0.975)


def test_a_chip_fitted_to_its_samples_is_told_apart(opened, request_of):
    """Every sample has an input of its own, so that what a chip does to one half says nothing of
    the other.
    """
    text = """<ir_version: 8, opset_import: ["" : 13]> net (float[N, 60] x) => (float[N, 2] y) <float[60, 2] w> { y = MatMul(x, w) }"""  # noqa: E501
    labels = np.random.default_rng(5).integers(0, 2, 60)
    weights = (0.04 * np.eye(2, dtype=np.float32))[labels]
    weights[0, labels[0]] = 1.0
    runtime, placement = opened(
        text, {"w": weights}, {"x": np.eye(60, dtype=np.float32)}, labels, tolerance=0.05
    )
    found = TRANSFER.run(request_of(runtime, placement)).result
    assert found.property_of == "samples"
    assert all(direction.searched < 0.1 for direction in found.directions)
    assert all(direction.held_out > 0.9 for direction in found.directions)


def test_without_visible_damage_nothing_is_said(small, request_of):
    runtime, placement = small
    robust = replace(
        placement,
        tensors={
            name: replace(tensor, limits=GivenLimits(tensor.lo * 1e-6, tensor.hi * 1e-6))
            for name, tensor in placement.tensors.items()
        },
    )
    found = TRANSFER.run(request_of(runtime, robust)).result
    assert found.property_of == "too little damage"


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.9, 0.85), "chip"),
        ((0.1, -0.2), "samples"),
        ((0.9, 0.5), "both"),
        ((0.9, None), "too little damage"),
    ],
)
def test_words(shares, expected):
    class Direction:
        def __init__(self, share):
            self.share = share

    assert property_of([Direction(share) for share in shares]) == expected
