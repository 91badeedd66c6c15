"""Planes of cells: what converters see of them adds up to the weights that were stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.mapping.coding import num_slices
from cimrobust.mapping.device_levels import whole_levels
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import TensorPlacement
from cimrobust.mapping.planes import cells_of, plane_set, read_variances
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.shipped_samples import sample_folder

SCAN = scan_layers(load_network(sample_folder() / "breast_cancer_mlp.onnx"))
MAPPINGS = ["sign_magnitude", "differential", "offset"]


def profile_of(mapping: str, subtract: str, bits: int) -> DeviceProfile:
    base = load_profile("isaac-like-8bit")
    assert base.adc is not None
    return replace(
        base,
        weight=replace(base.weight, mapping=mapping),
        device=replace(base.device, bits=bits),
        adc=replace(base.adc, subtract=subtract),
    )


@pytest.fixture(params=MAPPINGS)
def mapping(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["digital", "analog"])
def subtract(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def layers(profile: DeviceProfile) -> list[TensorPlacement]:
    return list(place(SCAN, profile).tensors.values())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_planes_of_cells_add_up_to_the_level_of_every_weight(
    mapping: str, subtract: str, bits: int
) -> None:
    profile = profile_of(mapping, subtract, bits)
    planes = plane_set(profile)
    sides = 2 if subtract == "digital" and mapping != "offset" else 1
    assert len(planes.planes) == sides * num_slices(profile)
    for tensor in layers(profile):
        cells = cells_of(tensor, whole_levels(tensor).astype(np.float32))
        total = sum(planes.weight(index) * cell for index, cell in enumerate(cells))
        level = np.round(tensor.nominal.reshape(-1) / tensor.scale[0])
        np.testing.assert_array_equal(total - planes.input_sum_gain, level)
        for plane, cell in zip(planes.planes, cells, strict=True):
            assert plane.low <= cell.min()
            assert cell.max() <= plane.high


def test_a_column_of_references_is_taken_off_before_or_behind_the_converters() -> None:
    digital, analog = (plane_set(profile_of("offset", side, 2)) for side in ("digital", "analog"))
    assert digital.input_sum_gain == sum(
        analog.weight(index) * plane.reference for index, plane in enumerate(analog.planes)
    )
    assert analog.input_sum_gain == 0
    assert {plane.reference for plane in digital.planes} == {0}
    for plane in analog.planes:
        assert (plane.low, plane.high) == (-plane.reference, 3 - plane.reference)


def test_variances_of_reads_are_those_of_the_devices_behind_each_cell(
    mapping: str, subtract: str
) -> None:
    profile = profile_of(mapping, subtract, 2)
    sigma = 0.5 + np.arange(4.0)
    made = replace(profile, read_noise=None)
    object.__setattr__(made, "read_sigma_levels", lambda: sigma)
    for tensor in layers(profile):
        noisy = replace(tensor, profile=made)
        whole = whole_levels(tensor)
        variances = read_variances(noisy)
        planes = plane_set(profile).planes
        assert len(variances) == len(planes)
        cells = np.square(sigma)[whole].astype(np.float32)
        # Every device is read once, whatever side it is on.
        assert sum(v.sum(dtype=np.float64) for v in variances) == pytest.approx(
            cells.sum(dtype=np.float64), rel=1e-6
        )
