"""The search of a network whose profile has converters: its gradients know the bit lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from cimrobust.available_memory import memory_limit
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import DeviceTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.subject import Subject
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.run import Run
from cimrobust.search import gradients
from cimrobust.search.candidate import Key
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import TwinStatus, open_gradients
from cimrobust.search.losses import CrossEntropy
from cimrobust.search.pass_ledger import PassLedger
from cimrobust.search.scorer import Scorer
from cimrobust.search.torch_patterns import tensors_of
from tests.unit.search.conftest import MLP, mlp_weights, samples

Small = tuple[Runtime, Placement]
Opened = Callable[..., Subject]


@pytest.fixture
def through(small: Small) -> Opened:
    """Open a network through converters; its own samples calibrate them."""

    def opener(plain: Small | None = None, **changes: object) -> Subject:
        runtime, placement = small if plain is None else plain
        tables: dict[str, object] = {
            "dac": DacTable(5, bits_per_pass=1),
            "adc": AdcTable(5, subtract="digital", range="full_scale"),
            **changes,
        }
        device = DeviceTable(bits=2, tolerance=0.05, sigma=0.02)
        profile: DeviceProfile = replace(placement.profile, device=device, **tables)
        placed = place(scan_layers(runtime.network), profile)
        data = runtime.dataset
        return Subject(
            open_network(
                runtime.network, scan_layers(runtime.network), placed, data, calibration=data
            ),
            placed,
        )

    return opener


def _status(subject: Subject, *, workers: int = 1, with_bit_lines: bool = True) -> TwinStatus:
    run = Run(seed=1, effort="quick", workers=workers)
    return open_gradients(subject, run, with_bit_lines=with_bit_lines)


def _codes(status: TwinStatus) -> list[str]:
    return [warned.code for warned in status.warnings]


def test_the_twin_decides_as_the_chip(through: Opened) -> None:
    subject = through()
    whole, part = _status(subject), _status(subject, with_bit_lines=False)
    assert whole.oracle is not None
    assert part.oracle is not None
    assert (whole.oracle.follows_chip, part.oracle.follows_chip) == (True, False)
    assert _codes(whole) == []
    assert _codes(part) == ["TWIN_APPROXIMATE"]
    pattern = subject.box.random_corner(np.random.default_rng(2))
    weights = subject.box.weights(pattern)
    expected = subject.runtime.outputs(weights, subset=whole.attack_set)
    np.testing.assert_array_equal(whole.oracle.logits(weights).numpy(), expected)
    assert not np.allclose(part.oracle.logits(weights).numpy(), expected, atol=1e-3)


def test_without_converters_there_is_nothing_to_add(small: Small) -> None:
    status = _status(Subject(*small))
    assert status.oracle is not None
    assert status.oracle.follows_chip
    assert status.oracle._crossbars is None


def test_a_pass_counts_what_is_correct_on_the_chip(through: Opened) -> None:
    subject = through()
    for with_bit_lines in (True, False):
        problem = _status(subject, with_bit_lines=with_bit_lines).problem(subject, Run())
        scorer = Scorer(problem, PassLedger(problem.task))
        pattern = problem.box.random_corner(np.random.default_rng(2))
        evaluation = scorer.evaluate(tensors_of(pattern), CrossEntropy(), 1.0)
        assert scorer.key_of(evaluation, pattern) == scorer.score([pattern])[0]
        key = scorer.score_if_worse(pattern, Key(np.inf, np.inf), near=evaluation)
        assert key == scorer.score([pattern])[0]


def test_gradients_do_not_depend_on_the_number_of_workers(through: Opened) -> None:
    subject = through()
    pattern = subject.box.random_corner(np.random.default_rng(2))
    one, three = (
        status.oracle.evaluate(tensors_of(pattern), CrossEntropy(), 1.0)
        for status in (_status(subject), _status(subject, workers=3))
        if status.oracle is not None
    )
    assert one.loss == three.loss
    assert all(torch.equal(one.gradients[key], three.gradients[key]) for key in one.gradients)


def test_smaller_pieces_give_the_same_logits(through: Opened) -> None:
    subject = through()
    status = _status(subject)
    assert status.oracle is not None
    weights = subject.box.weights(subject.box.random_corner(np.random.default_rng(2)))
    whole = status.oracle.logits(weights)
    status.oracle._cut.halve("there is less")
    torch.testing.assert_close(status.oracle.logits(weights), whole, rtol=0, atol=0)


def test_noise_of_reads_stays_with_the_chip(through: Opened) -> None:
    noise = load_profile("sonos-like").read_noise
    subject = through(read_noise=noise)
    status = _status(subject)
    assert status.oracle is not None
    assert not status.oracle.follows_chip


def test_crossbars_that_do_not_fit_are_left_out(
    through: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = through()
    monkeypatch.setattr(gradients, "planned_memory", lambda: 1000)
    status = _status(subject)
    assert status.oracle is not None
    assert not status.oracle.follows_chip
    assert _codes(status) == ["TWIN_APPROXIMATE"]
    assert "They would take" in status.warnings[0].text


def test_a_memory_limit_changes_no_gradient(through: Opened) -> None:
    subject = through()
    zero = tensors_of(subject.box.zero())
    free = _status(subject, workers=3).oracle
    with memory_limit(10**12):
        limited = _status(subject, workers=3).oracle
    assert free is not None
    assert limited is not None
    one, other = (oracle.evaluate(zero, CrossEntropy(), 1.0) for oracle in (free, limited))
    assert all(torch.equal(one.gradients[key], other.gradients[key]) for key in one.gradients)


def test_runs_of_one_sample_each_go_through_the_crossbars(
    through: Opened, opened: Callable[..., Small]
) -> None:
    text = MLP.replace("[N, 6]", "[6]").replace("[N, 4]", "[4]")
    plain = opened(text, mlp_weights(), {"x": samples(11, 6)}, np.arange(11) % 4)
    subject = through(plain)
    oracle = _status(subject).oracle
    assert oracle is not None
    weights = subject.box.weights(subject.box.random_corner(np.random.default_rng(2)))
    expected = subject.runtime.outputs(weights).reshape(11, 4)
    np.testing.assert_array_equal(oracle.logits(weights).numpy(), expected)


@pytest.mark.usefixtures("cheap")
def test_a_search_finds_chips_that_the_crossbars_confirm(through: Opened) -> None:
    subject = through()
    found = search(subject, Run(seed=1, effort="quick"))
    weights = subject.box.weights(found.deviations)
    assert subject.runtime.score(weights) == found.score
    assert found.score.value < subject.runtime.nominal.value
    assert "TWIN_APPROXIMATE" not in [warned.code for warned in found.warnings]
