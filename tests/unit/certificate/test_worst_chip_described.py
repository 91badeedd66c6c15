"""How far the worst chip lies from drawn ones, and which inputs it flips."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from cimrobust.certificate.blocks import flipped as flips
from cimrobust.certificate.blocks import likelihood
from cimrobust.certificate.blocks.flipped import flipped
from cimrobust.certificate.blocks.likelihood import worst_likelihood
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.effect_tables import RelaxationTable
from cimrobust.device.load_profile import load_profile

FACTORS = np.array([[1.0, 1.0, 0.0], [4.0, 4.0, 0.0]])


def evidence(deviation, profile=None, monkeypatch=None):
    own = profile or load_profile("rram-write-verify-3pct")
    monkeypatch.setattr(likelihood, "level_weights", lambda tensor: tensor.factors)
    tensor = SimpleNamespace(profile=own, factors=FACTORS)
    placement = SimpleNamespace(profiles=(own,), tensors={"w": tensor})
    return SimpleNamespace(
        placement=placement,
        search=SimpleNamespace(deviations={"w": np.asarray(deviation, dtype=np.float32)}),
    )


def test_the_distance_counts_weights_in_their_standard_deviations(monkeypatch):
    sigma = (
        3 * 0.01 * np.sqrt(17.0)
    )  # 2 bits a device are 3 levels of range, sigma is a hundredth of the range
    found, _ = worst_likelihood(evidence([2 * sigma, 0.0, 0.0], monkeypatch=monkeypatch))
    assert found.distance == pytest.approx(2.0, rel=1e-6)  # float32 deviations
    assert found.drawn_distance == pytest.approx(np.sqrt(2))
    assert found.log10_probability == pytest.approx(-2 / np.log(10), rel=1e-6)


@pytest.mark.parametrize("distribution", ["truncated_gaussian", "uniform"])
def test_no_more_drawn_chips_reach_as_far_than_the_bound_says(monkeypatch, distribution):
    tolerance, sigma = 0.03, 0.01
    device = DeviceTable(
        tolerance=tolerance,
        sigma=sigma if distribution != "uniform" else None,
        distribution=distribution,
    )
    profile = replace(load_profile("rram-write-verify-3pct"), device=device)
    rng = np.random.default_rng(7)
    width = 3 * tolerance
    if distribution == "uniform":
        drawn = rng.uniform(-width, width, size=(200_000, 2, 2))
    else:
        # 2.7 in a thousand draws lie beyond three sigma and are drawn again.
        drawn = rng.normal(0, 3 * sigma, size=(260_000, 2, 2))
        drawn = drawn[(np.abs(drawn) <= width).all(axis=(1, 2))][:200_000]
    weights = drawn[:, 0] + 4 * drawn[:, 1]
    for size in (0.05, 0.1, 0.2):
        direction = np.array([size, size, 0.0])
        found, _ = worst_likelihood(evidence(direction, profile, monkeypatch))
        share = float((weights @ direction[:2] >= direction[:2] @ direction[:2]).mean())
        # Five standard deviations of a share of 200 000 draws.
        assert share <= 10**found.log10_probability + 5 * np.sqrt(share / 200_000)


def test_a_profile_that_says_more_gives_no_distance(monkeypatch):
    profile = replace(load_profile("rram-write-verify-3pct"), relaxation=RelaxationTable(0.01))
    assert worst_likelihood(evidence([0, 0, 0], profile, monkeypatch)) == (
        None,
        "the profile has relaxation",
    )


def flip_evidence(array, *, labels=(0, 1, 1, 0), worst=(1, 0, 1, 1)):
    labels = np.array(labels)

    def logits(decisions):
        return np.eye(2)[np.array(decisions)] * np.arange(1, len(decisions) + 1)[:, None]

    task = SimpleNamespace(
        is_regression=False,
        labels=labels,
        counted=np.ones(len(labels), dtype=bool),
        decision=SimpleNamespace(read="label"),
        right=lambda output: output.argmax(1) == labels,
        decide=lambda output: output.argmax(1),
    )
    dataset = SimpleNamespace(inputs={"x": array}, num_samples=len(labels))
    runtime = SimpleNamespace(task=task, dataset=dataset, clean_output=logits(labels))
    return SimpleNamespace(runtime=runtime, worst_output=logits(worst))


@pytest.mark.parametrize(
    ("shape", "form", "rows"),
    [
        ((1, 8, 8), "image", 3),
        ((30,), "table", 3),
        ((200,), "signal", 3),
        ((700,), "signal", 3),
        ((2, 3, 5), "table", 3),
    ],
)
def test_inputs_are_shown_by_their_shape(shape, form, rows):
    array = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    found, reason = flipped(flip_evidence(array))
    assert reason is None
    assert (found.form, found.count, len(found.rows)) == (form, 3, rows)
    assert (found.rows[0].picture is None) is (form != "image")
    assert all(row.values is None or len(row.values) <= 256 for row in found.rows)


def test_every_kind_of_wrong_decision_comes_before_the_next_of_one():
    found, _ = flipped(
        flip_evidence(
            np.zeros((6, 3), dtype=np.float32), labels=(0, 0, 0, 0, 1, 1), worst=(1, 1, 1, 0, 0, 1)
        )
    )
    assert [(row.label, row.becomes) for row in found.rows] == [(0, 1), (1, 0), (0, 1), (0, 1)]


def test_what_never_flips_has_a_reason():
    found, reason = flipped(flip_evidence(np.zeros((4, 3), dtype=np.float32), worst=(0, 1, 1, 0)))
    assert found is None
    assert "no input wrong" in reason
    assert flips.MOST_SHOWN == 12


@pytest.mark.parametrize(
    ("log10", "said"),
    [
        (-12.6, "at most one in 10^12 "),
        (-12.4, "at most one in 10^12 "),
        (-1.0001, "at most one in 10^1 "),
        (-0.9, "at most 12.6 %"),
        (-0.5, "at most 31.7 %"),
    ],
)
def test_the_sentence_is_never_stronger_than_the_bound(log10: float, said: str) -> None:
    assert said in likelihood.likelihood_in_words(5.0, 2.0, log10)
