"""The torch twin of a network on crossbars: the kernel's values, gradients straight through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cimrobust.data.calibration import load_samples
from cimrobust.device.converter_tables import AdcTable, DacTable
from cimrobust.device.load_profile import load_profile
from cimrobust.engine.checks import random_vertex
from cimrobust.engine.input_offset import offset_wrappers
from cimrobust.engine.kernel_engine import KernelEngine
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.straight_crossbars import StraightCrossbars
from cimrobust.mapping.place import place
from cimrobust.mapping.placement import Placement
from cimrobust.onnx_io.fake_quant import with_fake_quantisers
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.search.torch_patterns import array_of, tensors_of
from cimrobust.twin.to_torch import Twin, to_torch
from tests.parity.test_kernel_engine import GRAPHS, _open, _profile, _save
from tests.zoo_networks import zoo_entries

SHIPPED = ("isaac-like-8bit", "isaac-like", "mnsim-like", "neurosim-like", "prime-like")


def _twin(runtime: Runtime) -> tuple[Twin, StraightCrossbars]:
    engine = runtime.engine
    assert isinstance(engine, KernelEngine)
    crossbars = StraightCrossbars(engine)
    twin = to_torch(
        with_fake_quantisers(engine.deployed.model, engine.input_levels()),
        weight_names=runtime.deployed.weight_names,
        outputs=[engine.output],
        wrapped=crossbars.wrappers(),
    )
    twin.straight_through = True
    return twin, crossbars


def _vertex(placement: Placement) -> dict[str, np.ndarray]:
    return {name: random_vertex(tensor) for name, tensor in placement.tensors.items()}


def _output(runtime: Runtime, weights: dict[str, np.ndarray]) -> np.ndarray:
    twin, crossbars = _twin(runtime)
    held, data = tensors_of(weights), runtime.dataset
    feed = tensors_of({**data.inputs, **data.constants})
    with torch.no_grad(), crossbars.programmed(held):
        return array_of(twin(feed, held)[runtime.engine.output])


def _layer(tmp_path: Path, name: str, **changes: Any) -> tuple[Runtime, Placement]:
    graph = GRAPHS[name]
    path = _save(tmp_path / "m.onnx", graph["nodes"], ["n", *graph["shape"]], graph["constants"])
    x = np.random.default_rng(1).normal(size=(24, *graph["shape"])).astype(np.float32)
    return _open(path, {"x": x}, _profile(**changes))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_layer_gives_the_values_of_the_kernel(tmp_path: Path, name: str) -> None:
    # Converters coarse enough that a bit line without one would show.
    adc = AdcTable(5, subtract="digital", range="full_scale")
    runtime, placement = _layer(tmp_path, name, mapping="offset", dac=DacTable(6), adc=adc)
    vertex = _vertex(placement)
    expected = runtime.outputs(vertex)
    np.testing.assert_array_equal(_output(runtime, vertex), expected)
    assert not np.allclose(expected, runtime.plain.run(vertex, runtime.dataset.inputs), rtol=1e-3)


@pytest.mark.parametrize("profile", SHIPPED)
@pytest.mark.parametrize("name", ["digits_cnn", "digits_resnet"])
def test_a_sample_decides_as_on_the_chip(samples: Path, name: str, profile: str) -> None:
    network = load_network(samples / f"{name}.onnx")
    scan = scan_layers(network)
    placement = place(scan, load_profile(profile))
    data, calibration = load_samples(
        samples / f"{name}.toml", None, inputs=network.inputs, limit=16, needs_calibration=True
    )
    runtime = open_network(network, scan, placement, data, calibration=calibration)
    for weights in (placement.nominal(), _vertex(placement)):
        expected = runtime.outputs(weights)
        # Between crossbars torch rounds sums in another order than onnxruntime; where that moves an
        # activation over the edge of a level, outputs move by what a level is worth.
        got = _output(runtime, weights)
        assert np.quantile(np.abs(got - expected), 0.9) <= 1e-4 * np.abs(expected).max()
        assert (runtime.task.decide(got) == runtime.task.decide(expected)).mean() >= 15 / 16


@pytest.mark.parametrize("name", ["mnist_mlp_256x2", "mnist_cntk_opset8"])
def test_a_zoo_network_decides_as_on_the_chip(zoo: Path, name: str) -> None:
    network = load_network(zoo / zoo_entries(zoo)[name]["file"])
    scan = scan_layers(network)
    placement = place(scan, load_profile("isaac-like-8bit"))
    data, calibration = load_samples(
        zoo / f"{name}.toml", None, inputs=network.inputs, limit=16, needs_calibration=True
    )
    runtime = open_network(network, scan, placement, data, calibration=calibration)
    vertex = _vertex(placement)
    expected, got = runtime.outputs(vertex), _output(runtime, vertex)
    assert (runtime.task.decide(got) == runtime.task.decide(expected)).mean() >= 15 / 16


def _loss_and_gradient(
    runtime: Runtime, weights: dict[str, np.ndarray], factors: torch.Tensor
) -> tuple[float, dict[str, np.ndarray]]:
    twin, crossbars = _twin(runtime)
    leaves = {key: value.requires_grad_() for key, value in tensors_of(weights).items()}
    with crossbars.programmed(leaves):
        output = twin(tensors_of(runtime.dataset.inputs), leaves)[runtime.engine.output]
    loss = (output * factors).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return float(loss.detach()), dict(zip(leaves, map(array_of, gradients), strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "conv1d",
        "conv2d",
        "conv groups",
        "conv transpose groups",
        "gemm transposed and scaled",
        "matmul stack",
        "matmul stack on the left",
        "matmul vector weight",
    ],
)
def test_deviations_meet_the_level_of_zero(tmp_path: Path, name: str) -> None:
    # Levels with an offset, sums without converters: the twin is the chip but for rounding.
    runtime, placement = _layer(tmp_path, name, dac=DacTable(12, encoding="offset"), adc=None)
    engine = runtime.engine
    assert isinstance(engine, KernelEngine)
    assert all(array.input_coding.zero_point for array in engine.arrays.values())
    vertex, data = _vertex(placement), runtime.dataset
    expected, plain = runtime.outputs(vertex), runtime.plain.run(vertex, data.inputs)
    twin = to_torch(
        with_fake_quantisers(engine.deployed.model, engine.input_levels()),
        weight_names=runtime.deployed.weight_names,
        outputs=[engine.output],
        wrapped=offset_wrappers(engine),
    )
    with torch.no_grad():
        got = array_of(twin(tensors_of(data.inputs), tensors_of(vertex))[engine.output])
    size = float(np.abs(expected).max())
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * size)
    assert np.abs(plain - expected).max() > 0.01 * size


@pytest.mark.parametrize("name", ["conv2d", "gemm", "matmul stack", "conv transpose 2d"])
def test_the_gradient_is_the_slope_of_the_rounded_sums(tmp_path: Path, name: str) -> None:
    adc = AdcTable(8, subtract="digital", range="full_scale")
    runtime, placement = _layer(
        tmp_path,
        name,
        mapping="offset",
        dac=DacTable(6, bits_per_pass=1, encoding="offset"),
        adc=adc,
    )
    nominal = placement.nominal()
    random = np.random.default_rng(3)
    shape = runtime.clean_output.shape
    factors = torch.from_numpy(random.choice([-1.0, 1.0], size=shape).astype(np.float32))
    _loss, gradients = _loss_and_gradient(runtime, nominal, factors)
    (key,) = nominal
    tensor = placement.tensors[key]
    # All weights move as far as the box lets them, in the direction of the gradient's signs: sums
    # then cross many codes, and rounding is noise about the slope.
    ends = [
        {key: nominal[key] + np.where(side * gradients[key] > 0, tensor.hi, tensor.lo)}
        for side in (1, -1)
    ]
    rise = np.subtract(*(_loss_and_gradient(runtime, end, factors)[0] for end in ends))
    expected = (gradients[key] * (ends[0][key] - ends[1][key])).sum()
    assert rise == pytest.approx(expected, rel=0.15)


def test_rounding_left_out_leaves_the_converters_of_bit_lines_out(tmp_path: Path) -> None:
    runtime, placement = _layer(tmp_path, "gemm", adc=AdcTable(4), dac=None)
    vertex = _vertex(placement)
    twin, crossbars = _twin(runtime)
    held = tensors_of(vertex)
    twin.softened = True
    with crossbars.programmed(held):
        got = array_of(twin(tensors_of(runtime.dataset.inputs), held)[runtime.engine.output])
    np.testing.assert_allclose(got, runtime.plain.run(vertex, runtime.dataset.inputs), rtol=1e-4)
    assert not np.allclose(got, runtime.outputs(vertex), rtol=1e-2)


def test_weights_that_change_in_place_are_programmed_anew(tmp_path: Path) -> None:
    runtime, placement = _layer(tmp_path, "gemm")
    twin, crossbars = _twin(runtime)
    held = tensors_of({key: array.copy() for key, array in placement.nominal().items()})
    feed = tensors_of(runtime.dataset.inputs)
    output = runtime.engine.output
    with torch.no_grad():
        with crossbars.programmed(held):
            before = array_of(twin(feed, held)[output])
        vertex = _vertex(placement)
        for key, tensor in held.items():
            tensor.copy_(torch.from_numpy(vertex[key]))
        with crossbars.programmed(held):
            after = array_of(twin(feed, held)[output])
    np.testing.assert_array_equal(before, runtime.outputs(placement.nominal()))
    np.testing.assert_array_equal(after, runtime.outputs(vertex))


def test_reads_without_their_noise_are_not_the_chip(tmp_path: Path) -> None:
    quiet, _ = _layer(tmp_path, "gemm")
    noisy, _ = _layer(tmp_path, "gemm", read_noise=load_profile("sonos-like").read_noise)
    for runtime, is_whole in ((quiet, True), (noisy, False)):
        assert isinstance(runtime.engine, KernelEngine)
        assert StraightCrossbars(runtime.engine).is_whole == is_whole


def test_more_cells_need_more_memory(tmp_path: Path) -> None:
    one, _ = _layer(tmp_path, "gemm", mapping="sign_magnitude")
    two, _ = _layer(tmp_path, "gemm", mapping="differential")
    sizes = []
    for runtime in (one, two):
        assert isinstance(runtime.engine, KernelEngine)
        sizes.append(StraightCrossbars(runtime.engine).num_bytes)
    # 30 x 7 weights of four slices: a plane of float32 each, and 40 bytes a device while they are
    # programmed.
    assert sizes == [4 * 30 * 7 * (4 + 40), 4 * 30 * 7 * (4 + 80)]
