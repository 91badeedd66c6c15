"""Devices of a witness that the profile or the stored weights do not allow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cimrobust.certificate.models import CertificateModel
from cimrobust.device.load_profile import profile_of
from cimrobust.mapping.box import box_of
from cimrobust.mapping.coding import num_slices
from cimrobust.mapping.place import place
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.review.device_check import DEVICES, devices_hold
from cimrobust.search.device_witness import write_device_witness
from tests.unit.review.test_consistency import plain

LAYER = "net.0.weight"
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Evidence:
    """A certificate, the devices of a corner of its box, and the weights they make."""

    folder: Path
    certificate: CertificateModel
    stored: Tensors
    nominal: Tensors

    def says(self, stored: Tensors | None = None) -> tuple[bool, str]:
        """What the check says."""
        weights = self.stored if stored is None else stored
        return devices_hold(self.folder, self.certificate, weights, self.nominal)

    def forge(self, change: Callable[[Tensors], None]) -> tuple[bool, str]:
        """What the check says of other devices."""
        tensors = dict(load_file(self.folder / DEVICES))
        change(tensors)
        save_file(tensors, self.folder / DEVICES)
        return self.says()


@pytest.fixture(scope="module", params=["sign_magnitude", "differential", "offset"])
def genuine(
    request: pytest.FixtureRequest, samples: Path, tmp_path_factory: pytest.TempPathFactory
) -> Evidence:
    """A random corner of the example network's box, by the coding of its weights."""
    values = plain()
    values["device"]["profile"]["weight"]["mapping"] = request.param
    profile = profile_of(values["device"]["profile"], shown="certificate.json")
    placement = place(scan_layers(load_network(samples / "breast_cancer_mlp.onnx")), profile)
    for layer in values["mapping"]["layers"]:
        tensor = placement.tensors[layer["initializer"]]
        layer.update(
            cells_per_weight=tensor.cells_per_weight,
            slices=num_slices(tensor.profile),
            coding=request.param,
        )
    box, random = box_of(placement), np.random.default_rng(0)
    corner = {
        name: np.where(random.random(low.shape) < 0.5, low, box.hi[name])
        for name, low in box.lo.items()
    }
    folder = tmp_path_factory.mktemp("devices")
    (folder / DEVICES).parent.mkdir()
    write_device_witness((folder / DEVICES).parent, placement, corner)
    return Evidence(
        folder, CertificateModel.model_validate(values), box.weights(corner), box.nominal
    )


@pytest.fixture
def evidence(genuine: Evidence, tmp_path: Path) -> Evidence:
    """A copy that may be forged."""
    shutil.copytree(genuine.folder, tmp_path / "forged")
    return replace(genuine, folder=tmp_path / "forged")


def put(part: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], None]:
    """Return what changes one part of the devices of a layer."""

    def forged(tensors: Tensors) -> None:
        name = f"{LAYER}.{part}"
        tensors[name] = np.ascontiguousarray(change(tensors[name].copy()), tensors[name].dtype)

    return forged


def first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return what gives the first device of a layer a value."""

    def changed(array: np.ndarray) -> np.ndarray:
        array.flat[0] = value
        return array

    return changed


def opened_wide(tensors: Tensors) -> None:
    """Intervals in which a device may be anywhere."""
    put("device_lo", lambda low: low - 3.0)(tensors)
    put("device_hi", lambda high: high + 3.0)(tensors)


def signed_level(tensors: Tensors) -> None:
    """A level that the numbers of a genuine file cannot even hold."""
    name = f"{LAYER}.level"
    tensors[name] = first(-1)(tensors[name].astype(np.int8))


def another_level(tensors: Tensors) -> None:
    """A device on the next level, with the deviation that leaves the weight as it was."""
    level = tensors[f"{LAYER}.level"].flat[0]
    step = 1.0 if level < 3 else -1.0
    put("level", first(level + step))(tensors)
    put("device_deviation", lambda array: first(array.flat[0] - step)(array))(tensors)


FORGERIES: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "level above the last": (put("level", first(4.0)), "a level outside 0 to 3"),
    "level below the first": (signed_level, "a level outside 0 to 3"),
    "deviation": (put("device_deviation", first(0.5)), "a device outside its interval"),
    "no number": (put("device_deviation", first(np.nan)), "a device outside its interval"),
    "another level": (another_level, "a device outside its interval"),
    "wider interval": (opened_wide, "an interval wider than the profile's"),
    "endless interval": (put("device_hi", first(np.inf)), "an interval wider than the profile's"),
    "no interval": (put("device_lo", first(np.nan)), "a device outside its interval"),
    "scale": (put("scale", lambda scale: 0.5 * scale), "do not fold to the stored weights"),
    "tame devices": (put("device_deviation", np.zeros_like), "do not fold to the stored weights"),
    "fewer devices": (put("level", lambda level: level[:, 1:]), "must be"),
    "fewer intervals": (put("device_lo", lambda low: np.repeat(low, 2, axis=0)[:2]), "must be"),
}


def test_genuine_devices_hold(evidence: Evidence) -> None:
    held, said = evidence.says()
    assert held
    assert "folded they are the stored weights" in said


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_devices_are_refuted(evidence: Evidence, name: str) -> None:
    change, expected = FORGERIES[name]
    held, said = evidence.forge(change)
    assert not held
    assert expected in said
    assert LAYER in said


def test_devices_without_a_part_are_refuted(evidence: Evidence) -> None:
    held, said = evidence.forge(lambda tensors: tensors.pop(f"{LAYER}.device_lo"))
    assert not held
    assert said == f"missing ['{LAYER}.device_lo']"


def test_devices_of_weights_that_are_not_stored_are_refuted(evidence: Evidence) -> None:
    stored = {name: array for name, array in evidence.stored.items() if name != LAYER}
    assert evidence.says(stored) == (False, f"missing {LAYER}")


def test_weights_that_the_devices_do_not_make_are_refuted(evidence: Evidence) -> None:
    stored = {**evidence.stored, LAYER: evidence.nominal[LAYER]}
    assert evidence.says(stored) == (
        False,
        f"devices of '{LAYER}' do not fold to the stored weights",
    )
