"""Quantised networks give the decisions of exact integer arithmetic, whatever the processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from cimrobust.certify.exact_arithmetic import check_arithmetic
from cimrobust.data.load_dataset import load_data
from cimrobust.engine.original_file import run_original
from cimrobust.engine.ort import OrtEngine
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.save import save_model, with_weights
from cimrobust.onnx_io.scan import scan_layers
from tests.exact_integers import DYNAMIC, FORMS, evaluate, quantised, samples
from tests.zoo_networks import zoo_entries

COUNT = 64


def exact(path: Path, x: np.ndarray, form: str) -> np.ndarray:
    """Return the outputs of a file in int64; one sample at a time where a range is that of a batch."""  # noqa: E501
    model = onnx.load(path)
    size = 1 if form.removesuffix(", optimised") in DYNAMIC else len(x)
    return np.concatenate(
        [evaluate(model, {"x": x[start : start + size]})[0] for start in range(0, len(x), size)]
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_decisions_are_those_of_exact_integers(form: str, tmp_path: Path) -> None:
    path, x = quantised(form, tmp_path), samples(COUNT)
    network, expected = load_network(path), exact(path, x, form)
    got = run_original(network, {"x": x}, {})
    assert (got.argmax(1) == expected.argmax(1)).all()
    assert len(set(expected.argmax(1).tolist())) > 1
    if form.removesuffix(", optimised") not in DYNAMIC:
        # The output is levels times a float32 scale: levels are equal, and the product is rounded
        # once.
        np.testing.assert_allclose(got, expected, rtol=2**-23, atol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", FORMS)
def test_deployed_networks_decide_as_exact_integers(form: str, tmp_path: Path) -> None:
    path, x = quantised(form, tmp_path), samples(COUNT)
    network = load_network(path)
    scan = scan_layers(network)
    batch_size = 1 if form.removesuffix(", optimised") in DYNAMIC else None
    engine = OrtEngine(deploy(network, scan), batch_size=batch_size)
    got = engine.run({layer.initializer: layer.values for layer in scan.layers}, {"x": x})
    assert (got.argmax(1) == exact(path, x, form).argmax(1)).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "form", ["QDQ u8 s8", "QOperator u8 s8 per channel", "QOperator s8 s8", "dynamic s8"]
)
def test_the_run_of_a_quantised_file_is_compared_operator_by_operator(
    form: str, tmp_path: Path
) -> None:
    network = load_network(quantised(form, tmp_path))
    found = check_arithmetic(network, {"x": samples(8)}, {}, output="y")
    assert found.reason is None
    assert found.compared >= 5
    assert found.wrong == ()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["QOperator s8 s8", "QOperator u8 s8", "QDQ s8 s8"])
def test_layers_that_stay_digital_are_exact_in_the_file_of_a_chip_too(
    form: str, tmp_path: Path
) -> None:
    path, x = quantised(form, tmp_path), samples(16)
    network = load_network(path)
    scan = scan_layers(network)
    first = replace(scan, layers=scan.layers[:1])
    deployed, weights = (
        deploy(network, first),
        {first.layers[0].initializer: first.layers[0].values},
    )
    got = OrtEngine(deployed).run(weights, {"x": x})
    assert (got.argmax(1) == exact(path, x, form).argmax(1)).all()
    save_model(with_weights(deployed, weights), tmp_path / "chip.onnx")
    # A session of anybody, without options.
    session = onnxruntime.InferenceSession(
        str(tmp_path / "chip.onnx"), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], got)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar_resnet8_qlinear", "cifar_resnet4b_qdq"])
def test_zoo_networks_decide_as_exact_integers_and_score_what_their_makers_say(
    zoo: Path, name: str
) -> None:
    network = load_network(zoo / f"models/{name}.onnx")
    data = load_data(zoo / f"{name}.toml", inputs=network.inputs, limit=500)
    output = data.decision.output or network.outputs[0].name
    found = check_arithmetic(network, data.inputs, data.constants, output=output)
    assert found.wrong == ()
    assert not found.left_out
    decisions = run_original(network, data.inputs, data.constants, output=output, threads=2).argmax(
        1
    )
    x, model = next(iter(data.inputs.values())), onnx.load(network.path)
    expected = np.concatenate(
        [
            evaluate(model, {network.inputs[0].name: x[start : start + 100]})[0]
            for start in range(0, len(x), 100)
        ]
    )
    assert (decisions == expected.argmax(1)).all()
    stated = zoo_entries(zoo)[name]["clean"]["value"]
    # Of 2000 samples, the first 500 here: within three standard errors.
    assert (
        abs((decisions == data.labels).mean() - stated) < 3 * (stated * (1 - stated) / 500) ** 0.5
    )
