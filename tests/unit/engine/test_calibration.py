"""Ranges from calibration data: against ranges computed by hand, and kept under the content they
follow from.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import TileTable
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine import calibration_cache
from cimrobust.engine.codings import ArrayRanges
from cimrobust.engine.open import Runtime, open_network
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers

_RNG = np.random.default_rng(2)
WEIGHT = _RNG.integers(-3, 4, (6, 4)).astype(np.float32)
WEIGHT[0, 0] = 3.0  # levels of 2 bits: the weights are their own levels
CALIBRATION = _RNG.integers(-7, 8, (12, 6)).astype(np.float32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _profile(**changes: Any) -> DeviceProfile:
    base = load_profile("rram-write-verify-3pct")
    weight = replace(base.weight, bits=2)
    return replace(
        base,
        weight=weight,
        dac=DacTable(4, encoding="signed"),
        adc=AdcTable(6),
        tile=TileTable(4, 3),
        **changes,
    )


def _open(
    folder: Path, profile: DeviceProfile, calibration: np.ndarray = CALIBRATION, workers: int = 1
) -> Runtime:
    path = folder / "m.onnx"
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    network = load_network(path)
    scan = scan_layers(network)

    def data(x: np.ndarray) -> DataSet:
        return DataSet({"x": x}, {}, None, Decision(), DataSource("made", {}, {}, len(x)))

    evaluated = data(100 * _RNG.normal(size=(5, 6)).astype(np.float32))
    return open_network(
        network,
        scan,
        place(scan, profile),
        evaluated,
        calibration=data(calibration),
        workers=workers,
    )


def _ranges(runtime: Runtime) -> ArrayRanges:
    assert runtime.converters is not None
    return runtime.converters.ranges["product/B"]


def test_ranges_are_those_of_the_calibration_samples_alone(tmp_path: Path) -> None:
    ranges = _ranges(_open(tmp_path, _profile()))
    assert (ranges.low, ranges.high) == (CALIBRATION.min(), CALIBRATION.max())


def test_largest_sums_of_every_tile(tmp_path: Path) -> None:
    profile = _profile()
    assert profile.adc is not None
    ranges = _ranges(_open(tmp_path, replace(profile, adc=replace(profile.adc, per="tile"))))
    # 7 levels span the range of 7, so a level is 1; 4 rows and 3 columns a tile.
    assert ranges.sums is not None
    for row_tile, rows in enumerate((slice(0, 4), slice(4, 6))):
        sums = np.abs(CALIBRATION[:, rows] @ WEIGHT[rows])
        assert ranges.sums[0, row_tile].tolist() == [sums[:, :3].max(), sums[:, 3:].max()]
    whole = _ranges(_open(tmp_path, profile))
    assert whole.sums is not None
    assert set(whole.sums.ravel().tolist()) == {ranges.sums.max()}


def test_a_percentile_leaves_out_the_largest(tmp_path: Path) -> None:
    profile = _profile()
    assert profile.dac is not None
    ranges = _ranges(_open(tmp_path, replace(profile, dac=replace(profile.dac, percentile=90.0))))
    inside = float(np.percentile(np.abs(CALIBRATION), 90, method="higher"))
    assert (ranges.low, ranges.high) == (
        max(-inside, CALIBRATION.min()),
        min(inside, CALIBRATION.max()),
    )


def test_ranges_do_not_depend_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cimrobust.engine.converter_proof.read_ranges", lambda *_: None)
    many = np.random.default_rng(3).normal(size=(700, 6)).astype(np.float32)
    one, three = (_ranges(_open(tmp_path, _profile(), many, workers)) for workers in (1, 3))
    assert (one.low, one.high, one.sums.tolist()) == (three.low, three.high, three.sums.tolist())  # type: ignore[union-attr]


def _files() -> set[Path]:
    folder = calibration_cache._file("x").parent
    return set(folder.glob("*.json")) if folder.exists() else set()


def test_results_are_kept_by_what_they_follow_from(tmp_path: Path) -> None:
    profile = _profile()
    _open(tmp_path, profile)
    assert len(_files()) == 1
    _open(tmp_path, replace(profile, device=replace(profile.device, tolerance=0.01, sigma=0.003)))
    assert len(_files()) == 1, "the deviation of devices has no part in nominal ranges"
    assert profile.adc is not None
    _open(tmp_path, replace(profile, adc=replace(profile.adc, percentile=99.0)))
    _open(tmp_path, profile, CALIBRATION + 1)
    _open(tmp_path, replace(profile, tile=TileTable(3, 3)))
    assert len(_files()) == 4


@pytest.mark.parametrize("damage", ["cut", "other number", "empty", "another product"])
def test_a_damaged_file_is_measured_again(tmp_path: Path, damage: str) -> None:
    expected = _ranges(_open(tmp_path, _profile()))
    (file,) = _files()
    whole = file.read_bytes()
    kept = json.loads(whole)
    kept["ranges"]["product/B"]["high"] = 99.0
    other = {"ranges": {"else/B": kept["ranges"]["product/B"]}}
    other["sha256"] = calibration_cache._digest(other["ranges"])
    file.write_bytes(
        {
            "cut": whole[:-9],
            "other number": json.dumps(kept).encode(),
            "empty": b"",
            "another product": json.dumps(other).encode(),
        }[damage]
    )
    assert _ranges(_open(tmp_path, _profile())).high == expected.high
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _ranges(_open(tmp_path, _profile())).high == CALIBRATION.max()
