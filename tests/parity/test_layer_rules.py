"""A network whose layers have devices of different kinds: kernel and NumPy reference draw the same
chips, and with converters compute the same products.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.data.calibration import load_samples
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.core_tables import DeviceTable, TileTable, WeightTable
from cimrobust.device.curve import Curve
from cimrobust.device.effect_tables import DriftTable, FaultsTable, ReadNoiseTable
from cimrobust.device.layer_rules import LayerRule
from cimrobust.device.load_profile import load_profile
from cimrobust.device.profile import DeviceProfile
from cimrobust.engine import kernel, reference
from cimrobust.engine.latent import LatentChips
from cimrobust.engine.open import Runtime, open_network
from cimrobust.mapping.box import box_of
from cimrobust.mapping.decided import stored_layers
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.load_network import load_network
from cimrobust.search.device_witness import write_device_witness

_RISING = Curve("points", x=(0.0, 1.0), y=(0.01, 0.06))
RULES = (
    LayerRule(
        match="features.0.weight",
        weight=WeightTable(bits=5, mapping="offset"),
        device=DeviceTable(bits=1, tolerance=0.1, sigma=0.05),
    ),
    LayerRule(
        match="features.2.weight",
        weight=WeightTable(mapping="differential"),
        device=DeviceTable(bits=4, tolerance=_RISING, distribution="uniform"),
    ),
    LayerRule(
        match="classifier.0.weight",
        weight=WeightTable(scale="column"),
        tile=TileTable(rows=40, columns=16),
    ),
)
_MORE = {
    "plain": {},
    "faults": {"faults": FaultsTable(0.01, 0.02)},
    "drift": {
        "drift": DriftTable(
            3600.0, 1.0, exponent_mean=0.02, exponent_sd=0.01, compensation="global"
        )
    },
}


def _profile(rules: tuple[LayerRule, ...] = RULES, **tables: object) -> DeviceProfile:
    return replace(load_profile("rram-write-verify-3pct"), rules=rules, **tables)


def _placed(path: Path, profile: DeviceProfile) -> Placement:
    return place(stored_layers(load_network(path), profile)[1], profile)


@pytest.mark.parametrize("more", _MORE)
def test_kernel_and_reference_draw_the_same_chips(samples: Path, more: str) -> None:
    placement = _placed(samples / "digits_cnn.onnx", _profile(**_MORE[more]))
    assert len(placement.profiles) == 4
    made = [
        program(placement, seed=3, trial=7)
        for program in (kernel.program_chip, reference.program_chip)
    ]
    levels = [
        program(placement, seed=3, trial=7)
        for program in (kernel.program_devices, reference.program_devices)
    ]
    for name in placement.tensors:
        np.testing.assert_array_equal(made[0][name], made[1][name])
        np.testing.assert_array_equal(levels[0][name], levels[1][name])


def test_a_layer_draws_what_it_draws_where_all_layers_have_its_devices(samples: Path) -> None:
    placement = _placed(samples / "digits_cnn.onnx", _profile())
    mixed = kernel.program_chip(placement, seed=3, trial=7)
    for name, tensor in placement.tensors.items():
        alone = kernel.program_chip(
            _placed(samples / "digits_cnn.onnx", tensor.profile), seed=3, trial=7
        )
        np.testing.assert_array_equal(mixed[name], alone[name])


def test_every_drawn_chip_lies_in_the_box_of_its_layers(samples: Path) -> None:
    placement = _placed(samples / "digits_cnn.onnx", _profile())
    box = box_of(placement)
    for trial in range(20):
        chip = kernel.program_chip(placement, seed=0, trial=trial)
        box.check(
            box.clip({name: chip[name] - box.nominal[name] for name in chip}), origin="drawn chip"
        )
        for name, weights in chip.items():
            allowed = 2e-7 * float(np.abs(weights).max())  # nominal + deviation was rounded
            deviation = weights - box.nominal[name]
            assert (deviation >= box.lo[name] - allowed).all()
            assert (deviation <= box.hi[name] + allowed).all()


def test_chips_of_latents_reach_the_ends_of_every_layer(samples: Path) -> None:
    placement = _placed(samples / "digits_cnn.onnx", _profile())
    chips, box = LatentChips(placement), box_of(placement)
    high = chips.weights(np.full(chips.size, 6.4, np.float32))
    assert set(high) == set(box.names)
    single = [
        name for name in box.names if placement.tensors[name].profile.weight.mapping == "offset"
    ]
    for name in single:
        np.testing.assert_allclose(high[name] - box.nominal[name], box.hi[name], rtol=1e-4)


def test_the_witness_of_mixed_devices_folds_to_its_weights(samples: Path, tmp_path: Path) -> None:
    placement = _placed(samples / "digits_cnn.onnx", _profile())
    corner = box_of(placement).random_corner(np.random.default_rng(0))
    found = write_device_witness(tmp_path, placement, corner)
    assert found.devices == sum(
        tensor.cells_per_weight * tensor.nominal.size for tensor in placement.tensors.values()
    )
    assert found.largest_error < 1e-6


def _opened(path: Path, data: str, profile: DeviceProfile, limit: int) -> Runtime:
    network, scan = stored_layers(load_network(path), profile)
    evaluated, calibration = load_samples(
        data, None, inputs=network.inputs, limit=limit, needs_calibration=True
    )
    return open_network(network, scan, place(scan, profile), evaluated, calibration=calibration)


def test_converters_compute_layers_of_different_devices_as_the_reference_does(
    samples: Path,
) -> None:
    tables = {
        "dac": DacTable(6, bits_per_pass=1),
        "adc": AdcTable(8),
        "read_noise": ReadNoiseTable(0.002),
    }
    runtime = _opened(
        samples / "digits_cnn.onnx", str(samples / "digits_cnn.toml"), _profile(**tables), 60
    )
    assert runtime.converters is not None
    assert (runtime.converters.ideal.differing_decisions, runtime.converters.digital) == (
        0,
        (),
    )  # both compared at opening
    arrays = runtime.engine.arrays.values()
    assert {array.use.layout.tile_rows for array in arrays} == {40, 128}
    assert len({array.output_coding.gain.shape[0] for array in arrays}) == 3, (
        "planes: six of one bit, two of four, four of two"
    )


def test_both_weights_of_a_recurrent_layer_may_have_arrays_of_their_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], name="first", perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "W", "R"], ["", "h"], name="gru", hidden_size=3),
        helper.make_node("Squeeze", ["h", "zero"], ["last"], name="squeeze"),
        helper.make_node("MatMul", ["last", "fc"], ["y"], name="out"),
    ]
    shapes = {"W": (1, 9, 4), "R": (1, 9, 3), "fc": (3, 3)}
    initializers = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    initializers.append(numpy_helper.from_array(np.array([0], np.int64), "zero"))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
        for name, shape in (("x", [5, 4]), ("y", [3]))
    )
    graph = helper.make_graph(nodes, "net", [x], [y], initializers)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "gru.onnx",
    )
    np.savez(
        tmp_path / "data.npz",
        x=random.standard_normal((80, 5, 4)).astype(np.float32),
        y=random.integers(0, 3, 80),
    )
    rule = LayerRule(
        match="R",
        weight=WeightTable(bits=6, mapping="differential"),
        device=DeviceTable(bits=3, tolerance=0.01, sigma=0.01),
        tile=TileTable(rows=2),
    )
    runtime = _opened(
        tmp_path / "gru.onnx",
        str(tmp_path / "data.npz"),
        _profile((rule,), dac=DacTable(8), adc=AdcTable(10)),
        40,
    )
    rows = {key: array.use.layout.tile_rows for key, array in runtime.engine.arrays.items()}
    assert rows == {"gru/W/0": 128, "gru/R/0": 2, "out/B": 128}
    assert runtime.converters is not None
    assert runtime.converters.reference.products == 3, (
        "compared bit for bit with the reference at opening"
    )


def test_a_digital_layer_computes_with_the_weights_of_the_file(samples: Path) -> None:
    profile = replace(
        load_profile("rram-write-verify-3pct"),
        rules=(LayerRule(match="classifier.0.weight", digital=True),),
    )
    coarse = replace(profile, weight=WeightTable(bits=2))
    network, scan = stored_layers(load_network(samples / "digits_cnn.onnx"), coarse)
    evaluated, _ = load_samples(
        str(samples / "digits_cnn.toml"),
        None,
        inputs=network.inputs,
        limit=50,
        needs_calibration=False,
    )
    runtime = open_network(network, scan, place(scan, coarse), evaluated)
    assert "classifier.0.weight" not in runtime.deployed.weight_names
    held = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in runtime.deployed.model.graph.initializer
    }
    np.testing.assert_array_equal(
        held["classifier.0.weight"], network.initializers["classifier.0.weight"]
    )
