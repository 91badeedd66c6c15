from __future__ import annotations

import numpy as np
import pytest

X = np.random.default_rng(5).normal(size=(2, 6, 4, 5)).astype(np.float32)


def channel(scale: float, count: int = 6) -> np.ndarray:
    return (np.linspace(0.5, 1.5, count) * scale).astype(np.float32)


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 3), (2, 6, 4, 5)])
def test_batch_normalization(check, opset, shape):
    x = X.reshape(-1)[: np.prod(shape)].reshape(shape)
    constants = {"s": channel(1), "b": channel(-1), "m": channel(0.3), "v": channel(2)}
    check("BatchNormalization", {"x": x}, opset=opset, constants=constants, epsilon=1e-3)


def test_instance_normalization(check):
    check(
        "InstanceNormalization",
        {"x": X},
        opset=7,
        constants={"s": channel(1), "b": channel(-1)},
        epsilon=1e-3,
    )


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(check, axis, bias):
    shape = X.shape[axis:]
    constants = {"s": np.full(shape, 1.5, np.float32)} | (
        {"b": np.full(shape, 0.5, np.float32)} if bias else {}
    )
    check("LayerNormalization", {"x": X}, opset=17, constants=constants, axis=axis)
    check(
        "LayerNormalization",
        {"x": X},
        opset=17,
        constants=constants,
        axis=axis,
        outputs=["y", "m", "i"],
    )


@pytest.mark.parametrize("opset", [18, 21])
def test_group_normalization_per_group_and_per_channel(check, opset):
    count = 3 if opset == 18 else 6
    check(
        "GroupNormalization",
        {"x": X},
        opset=opset,
        constants={"s": channel(1, count), "b": channel(-1, count)},
        num_groups=3,
        atol=1e-4,
    )


def test_rms_normalization(check):
    check("RMSNormalization", {"x": X}, opset=23, constants={"s": channel(1, 5)})


def test_lrn(check):
    check("LRN", {"x": X}, opset=13, size=3, alpha=0.1, beta=0.6, bias=2.0)


def test_mean_variance_and_lp(check):
    check("MeanVarianceNormalization", {"x": X}, opset=13, atol=1e-4)
    check("LpNormalization", {"x": X}, opset=7, axis=1, p=2)
    check("LpNormalization", {"x": X}, opset=7, axis=-1, p=1)


@pytest.mark.parametrize("bias", [True, False])
def test_microsoft_skip_layer_normalization(check, bias):
    x = X[0]
    constants = {"g": channel(1, 5), "b": channel(-1, 5)} | ({"c": channel(2, 5)} if bias else {})
    check(
        "SkipLayerNormalization",
        {"x": x, "s": x * 2},
        opset=17,
        constants=constants,
        domain="com.microsoft",
        epsilon=1e-4,
        atol=1e-4,
    )
