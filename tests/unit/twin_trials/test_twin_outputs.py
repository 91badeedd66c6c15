"""Decision outputs of chips by the twin: where, in which pieces, and for which networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor

from cimrobust.engine.converter_proof import Converters
from cimrobust.engine.subject import Subject
from cimrobust.errors import MemoryShortError, UsageError
from cimrobust.run import Run
from cimrobust.search.torch_patterns import tensors_of
from cimrobust.twin.to_torch import TwinUnavailableError, to_torch
from cimrobust.twin_trials import twin_outputs
from cimrobust.twin_trials.twin_outputs import TwinOutputs, open_twin_outputs, why_not_on_device

RUN = Run(seed=3)
LABELS = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (int64[N] y) {
  h = MatMul(x, w1) s = MatMul(h, w2) y = ArgMax <axis = 1, keepdims = 0> (s)
}
"""
VALUES = """
<ir_version: 8, opset_import: ["" : 13]>
net (float[N, 6] x) => (float[N, 4] y) { h = MatMul(x, w1) y = MatMul(h, w2) }
"""
Written = Callable[..., Subject]


def weights() -> dict[str, np.ndarray]:
    """Return weights of the networks above."""
    draw, shapes = np.random.default_rng(1), {"w1": (6, 8), "w2": (8, 4)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def inputs(count: int) -> np.ndarray:
    """Return samples of the networks above."""
    return np.random.default_rng(2).normal(size=(count, 6)).astype(np.float32)


def test_networks_of_a_fixed_batch_run_as_onnxruntime_runs_them(fixed_batch: Subject) -> None:
    chip = fixed_batch.runtime.engine.draw(fixed_batch.placement, seed=3, trial=5)
    found = open_twin_outputs(fixed_batch, RUN).of(chip)
    # 1e-5: float32 sums of at most eight terms in another order.
    np.testing.assert_allclose(found, fixed_batch.runtime.outputs(chip), rtol=1e-5, atol=1e-5)


def test_everything_is_computed_on_the_device(digits: Subject) -> None:
    # The meta device stands for an accelerator: what mixes it with the processor is an error.
    runtime, meta = digits.runtime, torch.device("meta")
    twin = to_torch(runtime.at_hand.model, weight_names=runtime.deployed.weight_names)
    outputs = TwinOutputs(twin, runtime, meta)
    chip = tensors_of(digits.placement.nominal(), meta)
    made = outputs._piece(chip, slice(0, 7), 1)
    assert (made.device, tuple(made.shape)) == (meta, (7, 10))
    assert outputs.where == "meta"


@pytest.mark.parametrize("workers", [1, 2])
def test_pieces_that_do_not_fit_are_made_smaller(
    digits: Subject, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    chip = digits.runtime.engine.draw(digits.placement, seed=3, trial=5)
    whole = open_twin_outputs(digits, RUN).of(chip)
    limit_pieces(monkeypatch, most=9)
    small = open_twin_outputs(digits, replace(RUN, workers=workers))
    np.testing.assert_allclose(small.of(chip), whole, rtol=1e-5, atol=1e-5)
    assert 4 < small.largest_piece <= 9


def test_a_device_that_holds_no_sample_is_an_error(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_pieces(monkeypatch, most=0)
    with pytest.raises(MemoryShortError, match=r"must hold one run of the network.*on processor"):
        open_twin_outputs(digits, RUN)


def test_samples_that_a_device_does_not_hold_stay_with_the_processor(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(arrays: object, device: object = None) -> dict[str, Tensor]:
        if device is not None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return tensors_of(arrays)  # type: ignore[arg-type]

    monkeypatch.setattr(twin_outputs, "tensors_of", full)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    held = twin_outputs._held(digits.runtime.dataset.inputs, torch.device("cuda"))
    assert {array.device.type for array in held.values()} == {"cpu"}


def test_networks_without_comparable_scores_are_refused(written: Written) -> None:
    subject = written(LABELS, weights(), inputs(20), "label")
    with pytest.raises(UsageError, match=r"its output holds labels, .*use --trials-on processor"):
        open_twin_outputs(subject, RUN)


def test_regressions_are_refused(written: Written) -> None:
    subject = written(VALUES, weights(), inputs(20), "value")
    with pytest.raises(UsageError, match="it is a regression: its errors differ"):
        open_twin_outputs(subject, RUN)


def test_converters_and_rounded_activations_are_refused(digits: Subject) -> None:
    runtime = digits.runtime
    assert why_not_on_device(runtime) == ""
    converters = replace(runtime, converters=Mock(spec=Converters))
    assert "has converters" in why_not_on_device(converters)
    original = replace(runtime.checks.original, tolerance=None)
    rounding = replace(runtime, checks=replace(runtime.checks, original=original))
    assert "rounds activations" in why_not_on_device(rounding)


def test_nodes_without_a_torch_form_are_named(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise TwinUnavailableError(["/head/Strange (Strange)"])

    monkeypatch.setattr(twin_outputs, "to_torch", none)
    with pytest.raises(UsageError, match=r"got none for /head/Strange .*--trials-on processor"):
        open_twin_outputs(digits, RUN)


def test_a_twin_that_fails_on_the_device_is_refused(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise NotImplementedError("no kernel for this device")

    monkeypatch.setattr(twin_outputs, "to_torch", fails)
    with pytest.raises(UsageError, match="the torch twin does not run: no kernel for this device"):
        open_twin_outputs(digits, RUN)


def test_a_twin_of_other_scores_is_refused(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = TwinOutputs.of
    monkeypatch.setattr(TwinOutputs, "of", lambda self, chip: np.float32(1.02) * of(self, chip))
    with pytest.raises(UsageError, match=r"differ from onnxruntime's by 0.02 of the largest"):
        open_twin_outputs(digits, RUN)


def limit_pieces(monkeypatch: pytest.MonkeyPatch, *, most: int) -> None:
    """Let no more than so many samples fit at once, as an accelerator does."""
    piece_of = TwinOutputs._piece

    def short(self: TwinOutputs, chip: object, piece: slice, at_once: int) -> Tensor:
        if piece.stop - piece.start > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return piece_of(self, chip, piece, at_once)  # type: ignore[arg-type]

    monkeypatch.setattr(TwinOutputs, "_piece", short)
