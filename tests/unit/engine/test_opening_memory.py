"""What opening a network takes is told before, and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cimrobust.available_memory import held_memory, memory_limit, planned_memory
from cimrobust.engine.opening_memory import (
    OpeningSizes,
    opening_sizes,
    opening_threads,
    require_chip,
    require_opening,
    session_threads,
)
from cimrobust.errors import ModelNotCoveredError
from cimrobust.mapping.place import MOST_HELD
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.layers import LayerScan
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

TRANSFORMER = """<ir_version: 8, opset_import: ["" : 17]>
net (int64[N, 3] ids) => (float[N, 3, 40] y) {
    e = Gather(table, ids)
    h = MatMul(e, w)
    y = Add(h, b)
}"""
CONVOLUTION = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2, 8, 8] x) => (float[N, 4, 6, 6] y) { y = Conv(x, k) }"""
LARGE = OpeningSizes(
    weights=4 * MOST_HELD,
    convolved=0,
    halved=0,
    digital=10**8,
    largest=10**8,
    file=10**9,
    is_mapped=True,
    is_integer=False,
    has_levels=False,
    is_late=True,
    sample=10**7,
    batch=10**6,
)


def loaded(folder: Path, text: str, kind: type = np.float32, **shapes: tuple[int, ...]):
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(kind)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    onnx.save(model, folder / "m.onnx")
    network = load_network(folder / "m.onnx")
    return network, scan_layers(network)


@pytest.fixture
def transformer(tmp_path: Path) -> tuple[Network, LayerScan]:
    return loaded(tmp_path, TRANSFORMER, table=(100, 32), w=(32, 40), b=(40,))


def test_sizes_are_those_of_the_network(transformer):
    sizes = opening_sizes(*transformer)
    assert (sizes.weights, sizes.convolved, sizes.halved) == (4 * 32 * 40, 0, 0)
    assert (sizes.digital, sizes.largest) == (4 * (3200 + 40), 4 * 3200)
    assert sizes.file == transformer[0].path.stat().st_size
    assert [sizes.is_mapped, sizes.is_integer, sizes.has_levels] == [False] * 3
    # Of one sample: ids, e, h and y; the largest of a run is a batch of 256 of h or y.
    assert sizes.sample == 4 * (3 + 3 * 32 + 2 * 3 * 40)
    assert sizes.batch == 256 * 4 * 3 * 40


def test_kernels_and_16_bits_are_told_apart(tmp_path):
    kernel = opening_sizes(*loaded(tmp_path, CONVOLUTION, k=(4, 2, 3, 3)))
    assert kernel.convolved == kernel.weights == 4 * 72
    half = TRANSFORMER.replace("float[", "float16[")
    sizes = opening_sizes(*loaded(tmp_path, half, np.float16, table=(9, 32), w=(32, 40), b=(40,)))
    assert sizes.halved == sizes.weights == 4 * 32 * 40
    assert sizes.digital == 4 * (9 * 32 + 40)
    assert kernel.session() > replace(kernel, convolved=0).session()
    assert sizes.session() > replace(sizes, halved=0).session()


def test_a_large_network_takes_a_chip_and_its_session():
    weights, digital = LARGE.weights, LARGE.digital
    stages = LARGE.stages()
    assert LARGE.placement() == 0
    assert stages["chip"] == weights + 2 * digital + LARGE.session()
    assert LARGE.session() == int(5.25 / 4 * weights) + digital
    assert stages["file"] == LARGE.session(of_file=True)
    assert LARGE.stages(is_placed=True) == stages
    assert max(stages.values()) < LARGE.opening() < 1.25 * max(stages.values())


def test_a_network_with_levels_or_converters_holds_its_weights_too():
    held, weights = replace(LARGE, is_late=False), LARGE.weights
    stages, placed = held.stages(), held.stages(is_placed=True)
    assert held.placement() == weights
    assert stages["chip"] == LARGE.stages()["chip"] + 2 * weights
    assert {name: stages[name] - size for name, size in placed.items()} == dict.fromkeys(
        stages, weights
    )
    # One weight less, and the box is held with the weights.
    assert replace(held, weights=weights - 4).placement() == 3 * (weights - 4)


def test_sessions_are_given_16_bits_of_weights_that_the_file_has_in_16_bits():
    half = replace(LARGE, halved=LARGE.weights)
    without = half.stages()["chip"] - half.session()
    assert without == LARGE.stages()["chip"] - LARGE.session() - LARGE.weights // 2


def test_as_many_sessions_are_open_as_fit(transformer):
    deployed = deploy(*transformer)
    each = 4 * 4 * 32 * 40 + 4 * 4 * (3200 + 40) + 2 * 4 * (3 + 3 * 32 + 2 * 3 * 40)
    with memory_limit(held_memory() + 2**24):
        spare = planned_memory()
        assert session_threads(deployed, 2, 10**9) == pytest.approx(spare // each, rel=0.05)
        assert session_threads(deployed, 2, 3) == 3
    with memory_limit(1000):
        assert session_threads(deployed, 2, 3) == 1


@pytest.mark.parametrize("require", [require_opening, require_chip])
def test_what_does_not_fit_is_refused_with_both_numbers(transformer, require):
    with (
        memory_limit(1000),
        pytest.raises(
            ModelNotCoveredError,
            match=r"a chip and its session must fit into memory, got \d+ bytes that are needed and"
            r" 0 that are left of --memory \(.*m\.onnx\); use a machine with more memory",
        ),
    ):
        require(*transformer)


def test_what_fits_to_the_byte_is_opened(transformer, monkeypatch):
    needed = opening_sizes(*transformer).opening()
    monkeypatch.setattr("cimrobust.onnx_io.memory_needs.available_memory", lambda: needed)
    assert require_opening(*transformer).opening() == needed
    monkeypatch.setattr("cimrobust.onnx_io.memory_needs.available_memory", lambda: needed - 1)
    with pytest.raises(ModelNotCoveredError):
        require_opening(*transformer)


def test_fewer_batches_run_at_once_where_more_do_not_fit():
    sizes = replace(LARGE, weights=4000, digital=0, largest=4000, sample=0, batch=2**26)
    beside, a_batch = sizes.opening(is_placed=True) - 4 * 2**26, 4 * 2**26
    with memory_limit(held_memory() + beside + 3 * a_batch + a_batch // 2):
        assert opening_threads(sizes, 8) == 3
        assert opening_threads(sizes, 2) == 2
    with memory_limit(1000):
        assert opening_threads(sizes, 8) == 1
