"""The twin of every zoo model against onnxruntime, and its gradients against finite differences."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from cimrobust.onnx_io.normalise import normalised
from cimrobust.twin.to_torch import Twin, to_torch
from tests.exact_runs import exact_options
from tests.zoo_networks import FLOAT_NETWORKS, QUANTISED_NETWORKS, ZOO_NETWORKS, zoo_entries


@cache
def load(zoo: Path, name: str) -> tuple[onnx.ModelProto, Twin]:
    """Model, and its twin with every matrix or kernel of weights mapped."""
    model = onnx.load(zoo / zoo_entries(zoo)[name]["file"])
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    weights = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type in kinds and len(tensor.dims) >= 2
    ]
    return model, to_torch(normalised(model), weight_names=weights)


def samples(zoo: Path, name: str, count: int) -> dict[str, np.ndarray]:
    """First samples of the model's data, preprocessed as the manifest says."""
    about = zoo_entries(zoo)[name]
    count = about["batch"] if isinstance(about["batch"], int) else count
    data = np.load(zoo / "data" / f"{about['data']}.npz")
    feeds = {}
    for feed in about["feed"]:
        x = data[feed["array"]][:count].astype(np.float32)
        for step in feed["steps"]:
            value = np.asarray(step.get("value", 0), np.float32)
            x = {
                "float32": lambda x=x: x,
                "subtract": lambda x=x, value=value: x - value,
                "divide": lambda x=x, value=value: x / value,
                "multiply": lambda x=x, value=value: x * value,
                "transpose": lambda x=x, step=step: x.transpose(step["perm"]),
                "reshape": lambda x=x, step=step: x.reshape(len(x), *step["shape"]),
            }[step["op"]]()
        feeds[feed["input"]] = np.ascontiguousarray(x, np.float32)
    return feeds


def by_onnxruntime(zoo: Path, name: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = exact_options()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(str(zoo / zoo_entries(zoo)[name]["file"]), options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def tensors(feeds: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in feeds.items()}


@pytest.mark.parametrize("name", FLOAT_NETWORKS)
def test_outputs_agree(zoo, name):
    # 2e-6 of the largest output: float32 sums of up to 4000 terms in another order.
    _, twin = load(zoo, name)
    feeds = samples(zoo, name, 16)
    with torch.no_grad():
        got = twin(tensors(feeds), twin.weights)
    for output, want in by_onnxruntime(zoo, name, feeds).items():
        np.testing.assert_allclose(got[output].numpy(), want, rtol=0, atol=2e-6 * abs(want).max())


@pytest.mark.parametrize("name", QUANTISED_NETWORKS)
def test_quantised_outputs_agree_within_one_level(zoo, name):
    # Products that fall half way between two levels round differently where the sums differ in the
    # last bit; such a step can travel on.
    _, twin = load(zoo, name)
    feeds = samples(zoo, name, 16)
    with torch.no_grad():
        got = twin(tensors(feeds))
    for output, want in by_onnxruntime(zoo, name, feeds).items():
        level = np.diff(np.unique(want)).min()
        off = abs(got[output].numpy() - want) / level
        assert off.max() <= 1.01
        assert (off > 0.01).mean() < 0.02
        assert (got[output].numpy().argmax(1) == want.argmax(1)).all()


@pytest.mark.parametrize("name", ZOO_NETWORKS)
def test_gradients_reach_every_weight(zoo, name):
    _, twin = load(zoo, name)
    weights = {key: value.requires_grad_() for key, value in twin.weights.items()}
    assert weights
    output = zoo_entries(zoo)[name]["output"]
    twin(tensors(samples(zoo, name, 4)), weights, [output])[output].square().sum().backward()
    assert [
        key
        for key, value in weights.items()
        if value.grad is None or not value.grad.abs().sum() > 0
    ] == []


@pytest.mark.parametrize("name", FLOAT_NETWORKS)
def test_gradients_equal_finite_differences_in_float64(zoo, name):
    model, single = load(zoo, name)
    twin, output = (
        to_torch(normalised(model), weight_names=single.weight_names).double(),
        zoo_entries(zoo)[name]["output"],
    )
    inputs = {key: value.double() for key, value in tensors(samples(zoo, name, 2)).items()}
    weights = {key: value.requires_grad_() for key, value in twin.weights.items()}
    generator = torch.Generator().manual_seed(3)

    def loss(at: dict[str, torch.Tensor]) -> torch.Tensor:
        return twin(inputs, at, [output])[output].square().mean().sqrt()

    gradients = dict(
        zip(weights, torch.autograd.grad(loss(weights), list(weights.values())), strict=True)
    )
    for key, value in weights.items():
        direction = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        step = 1e-7 * max(float(value.detach().abs().max()), 1e-2) / float(direction.abs().max())
        with torch.no_grad():
            up, down = (loss({**weights, key: value + sign * step * direction}) for sign in (1, -1))
        # 1e-4: cancellation at this step (1e-16 / 1e-7 over gradients of about 1e-4 of the loss);
        # kinks of ReLU are crossed hardly ever.
        expected = (gradients[key] * direction).sum()
        scale = max(abs(float(expected)), 1e-3 * float(gradients[key].norm() * direction.norm()))
        assert abs(float((up - down) / (2 * step)) - float(expected)) < 1e-4 * scale


def test_a_fixed_batch_does_not_bind_the_twin(zoo):
    _, twin = load(zoo, "cifar_resnet4b")
    x = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = twin({twin.inputs[0]: x})[twin.outputs[0]]
        single = torch.cat([twin({twin.inputs[0]: part})[twin.outputs[0]] for part in x.split(1)])
    torch.testing.assert_close(whole, single, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ZOO_NETWORKS)
def test_shape_values_stay_on_the_host(zoo, name):
    # The meta device stands for an accelerator: mixing it with the host is an error, and so is
    # reading numbers off it.
    model, _ = load(zoo, name)
    twin = to_torch(normalised(model)).to("meta")
    inputs = {key: value.to("meta") for key, value in tensors(samples(zoo, name, 2)).items()}
    assert {value.device.type for value in twin(inputs).values()} == {"meta"}
