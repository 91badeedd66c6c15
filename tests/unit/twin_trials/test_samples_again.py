"""Some samples of a chip run again: the same bits as in a run of all, and no more batches."""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.engine.ort import OpenNetwork
from cimrobust.engine.subject import Subject
from cimrobust.twin_trials.samples_again import run_again


def check(subject: Subject, wanted: np.ndarray) -> int:
    """Hold samples that were run again against a run of all; return how many there were."""
    runtime = subject.runtime
    chip = runtime.engine.draw(subject.placement, seed=3, trial=5)
    chosen, outputs = run_again(runtime, chip, wanted)
    assert wanted[chosen].sum() == wanted.sum()
    assert outputs.tobytes() == runtime.outputs(chip)[chosen].tobytes()
    return chosen.size


@pytest.mark.parametrize("sample", [0, 17, 30])
def test_samples_of_a_fixed_batch_give_the_same_bits(fixed_batch: Subject, sample: int) -> None:
    wanted = np.arange(31) == sample
    size = fixed_batch.runtime.plain.feeding.size
    assert check(fixed_batch, wanted) == (1 if sample == 30 else size)


def test_only_batches_with_a_wanted_sample_are_run(
    digits: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeding = digits.runtime.plain.feeding
    smaller = type(feeding)(feeding.mode, 16)
    monkeypatch.setattr(digits.runtime.plain, "feeding", smaller)
    batches = smaller.plan(120)
    wanted = np.zeros(120, dtype=bool)
    wanted[[batches[1].start, batches[1].stop - 1, batches[-1].stop - 1]] = True
    assert check(digits, wanted) == sum(b.stop - b.start for b in (batches[1], batches[-1]))
    fed: list[int] = []
    run = OpenNetwork.run

    def counted(self: OpenNetwork, inputs: dict, *given: object) -> np.ndarray:
        fed.append(len(next(iter(inputs.values()))))
        return run(self, inputs, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenNetwork, "run", counted)
    chip = digits.runtime.engine.draw(digits.placement, seed=3, trial=5)
    run_again(digits.runtime, chip, wanted)
    assert fed == [batches[1].stop - batches[1].start, batches[-1].stop - batches[-1].start]
