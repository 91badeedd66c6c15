"""What `inspect` says, and what it holds."""

from __future__ import annotations

from pathlib import Path

from cimrobust.pipeline.inspection import inspect_model


def test_inspection_holds_no_placement_until_it_is_asked_for(samples: Path) -> None:
    inspection = inspect_model(samples / "digits_cnn.onnx", device="isaac-like-8bit")
    plain = inspection.to_dict()
    assert "placement" not in vars(inspection)
    assert inspection.placement is inspection.placement
    assert inspection.to_dict() == plain
    assert plain["total_devices"] == sum(
        tensor.num_devices for tensor in inspection.placement.tensors.values()
    )
