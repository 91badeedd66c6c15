"""A search whose pieces do not fit into the memory of a device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cimrobust import available_memory as memory
from cimrobust.engine.activation_sizes import activation_bytes
from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.errors import MemoryShortError
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search import fitting_pieces
from cimrobust.search.ensemble import search
from cimrobust.search.gradients import open_gradients
from cimrobust.search.losses import SmoothAccuracy
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.sampled_twin import SampledTwin
from cimrobust.search.torch_patterns import tensors_of

RUN = Run(effort="quick")
Fitting = Callable[[int], None]


@pytest.fixture
def fitting(monkeypatch: pytest.MonkeyPatch) -> Fitting:
    """Let no more than so many samples fit at once, as an accelerator does."""

    def limited(most: int) -> None:
        output = SampledTwin._output

        def short(self: SampledTwin, weights: object, piece: slice, order: object) -> torch.Tensor:
            if piece.stop - piece.start > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return output(self, weights, piece, order)

        monkeypatch.setattr(SampledTwin, "_output", short)

    return limited


def gradients(oracle: GradientOracle, subject: Subject) -> dict[str, np.ndarray]:
    zero = tensors_of(subject.box.zero(), oracle.device)
    found = oracle.evaluate(zero, SmoothAccuracy(0.5), 1.0).gradients
    return {name: gradient.numpy() for name, gradient in found.items()}


def test_pieces_are_halved_until_they_fit(
    small: tuple[Runtime, Placement], fitting: Fitting
) -> None:
    subject = Subject(*small)
    whole = open_gradients(subject, RUN).oracle
    assert whole is not None
    expected = gradients(whole, subject)
    fitting(20)
    smaller = open_gradients(subject, RUN).oracle
    assert smaller is not None
    assert "pieces of at most 16 samples" in smaller.memory_note
    for name, gradient in gradients(smaller, subject).items():
        # float32 sums of 200 samples in another order
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-4, atol=1e-5)
    assert not whole.memory_note


def test_a_search_goes_on_with_gradients_and_says_so(
    small: tuple[Runtime, Placement], fitting: Fitting
) -> None:
    fitting(20)
    result = search(Subject(*small), RUN)
    assert result.has_twin
    assert [warned.code for warned in result.warnings] == ["SMALL_PIECES"]


def test_what_does_not_fit_at_all_ends_the_run_and_is_no_missing_twin(
    small: tuple[Runtime, Placement], fitting: Fitting
) -> None:
    fitting(0)
    with pytest.raises(MemoryShortError, match=r"one run of the network .* CUDA out of memory"):
        search(Subject(*small), RUN)


def test_a_member_without_memory_does_not_give_up(
    small: tuple[Runtime, Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*arguments: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("cimrobust.search.members.loss_members.climb_in_turn", short)
    with pytest.raises(MemoryShortError, match="search member cross_entropy"):
        search(Subject(*small), RUN)


def test_little_memory_means_fewer_threads_and_the_same_bits(
    small: tuple[Runtime, Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, many = Subject(*small), Run(effort="quick", workers=4)
    plenty = open_gradients(subject, many).oracle
    assert plenty is not None
    assert plenty._cut.workers == 4
    sample = activation_bytes(subject.runtime.at_hand)
    assert sample >= 4 * (6 + 12 + 12 + 12 + 4)
    # Two pieces of 64 samples, and 120 weights.
    monkeypatch.setattr(memory, "planned_memory", lambda: 2 * (64 * sample + 12 * 120))
    monkeypatch.setattr(fitting_pieces, "planned_memory", memory.planned_memory)
    scarce = open_gradients(subject, many).oracle
    assert scarce is not None
    assert (scarce._cut.workers, scarce.memory_note) == (2, "")
    for name, gradient in gradients(scarce, subject).items():
        assert gradient.tobytes() == gradients(plenty, subject)[name].tobytes()


def test_pieces_that_are_planned_not_to_fit_are_smaller(
    small: tuple[Runtime, Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(*small)
    most = 10 * activation_bytes(subject.runtime.at_hand) + 12 * 120
    monkeypatch.setattr(fitting_pieces, "planned_memory", lambda: most)
    oracle = open_gradients(subject, RUN).oracle
    assert oracle is not None
    assert max(piece.stop - piece.start for piece in oracle._cut.pieces) <= 10
    assert "did not fit" in oracle.memory_note
