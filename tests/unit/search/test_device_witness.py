"""The witness device by device: every device in its own interval, and folded they are the witness."""  # noqa: E501

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cimrobust.device.core_tables import DeviceTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.effect_tables import DriftTable
from cimrobust.device.profile import DeviceProfile
from cimrobust.device.window import WindowTable
from cimrobust.errors import SelfCheckError
from cimrobust.mapping.box import box_of
from cimrobust.mapping.place import place
from cimrobust.onnx_io.layers import CrossbarLayer, LayerScan
from cimrobust.search.device_witness import (
    DEVICES_FILE,
    check_pattern,
    device_pattern,
    write_device_witness,
)

_ROOT = Path(__file__).resolve().parents[3]
_CURVE = DeviceTable(
    bits=2, tolerance=Curve("points", x=(0.0, 1.0), y=(0.01, 0.06)), distribution="uniform"
)
_DRIFT = DriftTable(1e4, 1.0, exponent_mean=0.05, exponent_sd=0.01, compensation="global")


def layer(levels: np.ndarray | None = None) -> CrossbarLayer:
    values = np.random.default_rng(3).normal(size=(9, 7)).astype(np.float32)
    values[0, :3] = 0.0
    if levels is not None:
        values = (levels * 0.013).astype(np.float32)
    column = np.ascontiguousarray(np.broadcast_to(np.arange(7, dtype=np.int32), values.shape))
    return CrossbarLayer("w", (), values.shape, 1, 9, 7, values, column, levels)


def profile(mapping="sign_magnitude", scale="tensor", device=None, **tables) -> DeviceProfile:
    return DeviceProfile(
        "p",
        "test",
        weight=WeightTable(8, scale, mapping),
        device=device or DeviceTable(tolerance=0.03, sigma=0.01),
        **tables,
    )


_PROFILES = {
    "sign_magnitude": profile(),
    "differential": profile("differential"),
    "offset": profile("offset"),
    "column": profile(scale="column"),
    "one_bit": profile(device=DeviceTable(bits=1, tolerance=0.03, sigma=0.01)),
    "two_sides": profile(
        "differential",
        device=DeviceTable(tolerance_low=0.01, tolerance_high=0.05, distribution="uniform"),
    ),
    "levels": profile("differential", device=_CURVE),
    "clipping": profile("offset", device=_CURVE, window=WindowTable(1.0, 25.0, clips=True)),
    "drift": profile("differential", drift=_DRIFT, window=WindowTable(1.0, 25.0, clips=True)),
}


@pytest.mark.parametrize("mapping", _PROFILES)
@pytest.mark.parametrize("integer", [False, True])
def test_any_pattern_of_the_box_is_one_of_devices(mapping, integer):
    levels = (
        np.random.default_rng(5).integers(-128, 128, size=(9, 7)).astype(np.int32)
        if integer
        else None
    )
    placement = place(LayerScan((layer(levels),), ()), _PROFILES[mapping])
    box, tensor = box_of(placement), placement.tensors["w"]
    random = np.random.default_rng(1)
    for pattern in (
        box.zero(),
        {"w": box.lo["w"]},
        {"w": box.hi["w"]},
        box.random_corner(random),
        box.random_interior(random),
    ):
        devices = device_pattern(tensor, pattern["w"])
        assert ((devices.lo <= devices.deviation) & (devices.deviation <= devices.hi)).all()
        assert check_pattern(tensor, pattern["w"], devices) < 1e-6


@pytest.mark.parametrize("size", [1e-45, 1e-44, 1e-42, 1e-40, 1e-38, 1e-36, 1e-34, 1.0, 1e37])
@pytest.mark.parametrize("mapping", ["levels", "differential", "clipping", "drift"])
@pytest.mark.parametrize("integer", [False, True])
def test_devices_make_weights_of_every_size(mapping, size, integer):
    levels = np.random.default_rng(5).integers(-128, 128, size=(9, 7)).astype(np.int32)
    values = (levels * np.float64(size) / 128).astype(np.float32)
    stored = dataclasses.replace(layer(levels if integer else None), stored=values)
    placement = place(LayerScan((stored,), ()), _PROFILES[mapping])
    tensor = placement.tensors["w"]
    assert (np.abs(tensor.nominal - values) <= 0.51 * tensor.scale.max() + 1e-45).all()
    for deviation in (tensor.lo, tensor.hi):
        devices = device_pattern(tensor, deviation)
        check_pattern(tensor, deviation, devices)


def test_clipped_devices_stay_in_their_window_and_level_intervals_differ():
    placement = place(LayerScan((layer(),), ()), _PROFILES["clipping"])
    tensor = placement.tensors["w"]
    devices = device_pattern(tensor, tensor.hi)
    programmed = devices.level + devices.deviation
    assert programmed.min() >= 0
    assert programmed.max() <= 3 * (1 + 1e-7)
    share = np.array(
        [0.04, 0.36, 0.68]
    )  # g / g_max of levels 0 to 2, with g_min a 25th of g_max; level 3 cannot rise
    np.testing.assert_allclose(
        np.unique(devices.hi), [0.0, *3 * (0.01 + 0.05 * share)], rtol=1e-5, atol=1e-7
    )


def test_a_device_outside_its_interval_fails_the_self_check():
    placement = place(LayerScan((layer(),), ()), _PROFILES["levels"])
    tensor = placement.tensors["w"]
    devices = device_pattern(tensor, tensor.hi)
    swapped = devices.deviation.copy()
    swapped[0, 5] += 4e-3  # the weight stays the same, its devices share it in another way
    swapped[1, 5] -= 1e-3
    with pytest.raises(SelfCheckError, match=r"own interval, got .* device 0 of weight 5 \('w'\)"):
        check_pattern(tensor, tensor.hi, dataclasses.replace(devices, deviation=swapped))


def test_devices_that_make_other_weights_fail_the_self_check():
    placement = place(LayerScan((layer(),), ()), _PROFILES["differential"])
    tensor = placement.tensors["w"]
    devices = device_pattern(tensor, tensor.hi)
    with pytest.raises(
        SelfCheckError, match=r"fold to its weights, got a difference of .* at \[0, 0\]"
    ):
        check_pattern(
            tensor, tensor.hi, dataclasses.replace(devices, deviation=devices.deviation / 2)
        )


def test_one_interval_and_one_scale_a_column_are_stored_once(tmp_path):
    placement = place(LayerScan((layer(),), ()), _PROFILES["column"])
    check = write_device_witness(tmp_path, placement, box_of(placement).hi)
    stored = load_file(tmp_path / DEVICES_FILE)
    assert (check.devices, check.weights) == (4 * 63, 63)
    assert {key: (array.shape, str(array.dtype)) for key, array in stored.items()} == {
        "w.level": ((4, 63), "uint8"),
        "w.device_deviation": ((4, 63), "float32"),
        "w.device_lo": ((1, 1), "float32"),
        "w.device_hi": ((1, 1), "float32"),
        "w.scale": ((1, 7), "float64"),
    }


@pytest.mark.parametrize("mapping", _PROFILES)
def test_the_numpy_of_the_documentation_folds_the_file(mapping, tmp_path, monkeypatch):
    placement = place(LayerScan((layer(),), ()), _PROFILES[mapping])
    box = box_of(placement)
    pattern = box.random_corner(np.random.default_rng(2))
    monkeypatch.chdir(tmp_path)
    Path("witness").mkdir()
    write_device_witness(Path("witness"), placement, pattern)
    save_file(
        {"w.nominal": box.nominal["w"], "w.deviation": pattern["w"]},
        "witness/deviations.safetensors",
    )
    Path("certificate.json").write_text(
        json.dumps({"device": {"profile": placement.profile.to_dict()}})
    )
    code = re.search(
        r"```python\n(import json.*?)```",
        (_ROOT / "docs" / "how-to" / "device-level.md").read_text(),
        re.DOTALL,
    )
    assert code is not None
    names: dict[str, np.ndarray] = {}
    exec(code[1], names)
    np.testing.assert_allclose(names["made"], box.weights(pattern)["w"], rtol=1e-5, atol=1e-6)
