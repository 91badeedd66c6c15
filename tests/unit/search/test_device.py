from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.engine.open import Runtime
from cimrobust.engine.subject import Subject
from cimrobust.engine.torch_device import open_device, repeatable_convolutions
from cimrobust.errors import UsageError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.placement import Placement
from cimrobust.run import Run
from cimrobust.search.ensemble import search
from cimrobust.search.oracle import GradientOracle
from cimrobust.search.readout import Readout
from cimrobust.search.unit import unit_box
from cimrobust.twin.to_torch import to_torch

Small = tuple[Runtime, Placement]


def test_unknown_device_types_are_refused(small: Small) -> None:
    with pytest.raises(UsageError, match="device type must be one of cpu, cuda, got 'tpu'"):
        search(Subject(*small), Run(effort="quick", device_type="tpu"))


def test_an_accelerator_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UsageError, match="torch was built without CUDA"):
        open_device("cuda")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(
        UsageError,
        match=r"built for CUDA 12.8, finds no usable GPU or driver .*use --device-type cpu",
    ):
        open_device("cuda")


def test_the_processor_keeps_its_settings() -> None:
    before = torch.backends.cudnn.allow_tf32
    with repeatable_convolutions(torch.device("cpu")):
        assert torch.backends.cudnn.allow_tf32 == before
    with repeatable_convolutions(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.allow_tf32 == before


def test_everything_the_oracle_computes_with_is_on_its_device(small: Small) -> None:
    # The meta device stands for an accelerator: an operation that mixes it with the processor is an
    # error.
    runtime, placement = small
    box, meta = box_of(placement), torch.device("meta")
    twin = to_torch(runtime.deployed.model, weight_names=runtime.deployed.weight_names)
    readout = Readout(runtime.engine.output, "classes")
    oracle = GradientOracle(twin, runtime, readout, np.arange(200), box, workers=2, device=meta)
    logits = oracle.logits(box.weights(box.zero()))
    assert logits.device == oracle.labels.device == meta
    assert logits.shape == (200, 4)


def test_unit_points_are_on_the_device_of_the_box(small: Small) -> None:
    box, meta = box_of(small[1]), torch.device("meta")
    space = unit_box(box, meta)
    unit = space.unit(box.zero())
    assert {tensor.device for tensor in (*unit.values(), *space.pattern(unit).values())} == {meta}
