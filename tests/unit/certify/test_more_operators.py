"""Rules for operators that no network of `NETWORKS` has: slopes a channel, stored weights in
another type.
"""

from __future__ import annotations

import numpy as np
import pytest

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify, largest_certified_tolerance
from cimrobust.certify.refusal import Refusal
from tests.unit.certify.attack import PerInputAttack
from tests.unit.certify.test_soundness import random_chips
from tests.unit.search.conftest import Opener

HEAD = '<ir_version: 8, opset_import: ["" : 13]> net '
CNN = (
    HEAD
    + "(float[N, 2, 5, 5] x) => (float[N, 3] y) <float[4, 2, 3, 3] w, float[36, 3] v, float[4, 1,"
    " 1] s, float[1] t> "
    + "{ h = Conv(x, w)\n r = PRelu(h, s)\n f = Flatten(r)\n z = MatMul(f, v)\n y = PRelu(z, t) }"
)
CASTS = (
    HEAD
    + "({kind}[N, 6] x) => ({kind}[N, 4] y) <{stored}[6, 12] w, {stored}[12, 4] v> "
    + "{{ a = Cast<to = {to}>(w)\n b = Cast<to = {to}>(v)\n h = MatMul(x, a)\n r = Relu(h)\n y ="
    " MatMul(r, b) }}"
)


def arrays(dtype: type, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    return {
        name: (random.normal(size=shape) / np.sqrt(shape[0])).astype(dtype)
        for name, shape in shapes.items()
    }


def check_sound(opened: Opener, text: str, weights: dict[str, np.ndarray], x: np.ndarray) -> None:
    runtime, placement = opened(text, weights, {"x": x})
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    sizes = largest_certified_tolerance(network)
    assert (sizes > 0).sum() >= 6
    attack = PerInputAttack(runtime, placement, network=network)
    for sample in np.flatnonzero(sizes > 0):
        chip = attack.worst(int(sample), float(sizes[sample]))[1]
        for chosen in (chip, *random_chips(placement, float(sizes[sample]), 4)):
            output = runtime.plain.run(
                chosen, {key: array[[sample]] for key, array in runtime.dataset.inputs.items()}
            )
            assert output[0].argmax() == runtime.task.labels[sample]
    linear, interval = certify(network).margin, certify(network, method="interval").margin
    assert (linear >= interval).all()
    assert linear.sum() > interval.sum()


def test_slopes_a_channel(opened: Opener) -> None:
    weights = arrays(np.float32, w=(4, 2, 3, 3), v=(36, 3))
    weights |= {
        "s": np.array([0.0, 0.2, 0.7, 1.0], np.float32).reshape(4, 1, 1),
        "t": np.array([0.3], np.float32),
    }
    check_sound(
        opened, CNN, weights, np.random.default_rng(2).normal(size=(8, 2, 5, 5)).astype(np.float32)
    )


def test_slopes_above_one_are_refused(opened: Opener) -> None:
    weights = arrays(np.float32, w=(4, 2, 3, 3), v=(36, 3)) | {
        "s": np.full((4, 1, 1), 1.5, np.float32),
        "t": np.ones(1, np.float32),
    }
    refused = open_bounds(*opened(CNN, weights, {"x": np.ones((4, 2, 5, 5), np.float32)}))
    assert isinstance(refused, Refusal)
    assert "slopes are not constants between 0 and 1" in refused.reason


@pytest.mark.parametrize(
    ("kind", "stored", "to"),
    [("float", "float16", 1), ("double", "float", 11), ("float", "double", 1)],
)
def test_weights_of_another_type(opened: Opener, kind: str, stored: str, to: int) -> None:
    dtypes = {"float": np.float32, "double": np.float64, "float16": np.float16}
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(dtypes[kind])
    check_sound(
        opened,
        CASTS.format(kind=kind, stored=stored, to=to),
        arrays(dtypes[stored], w=(6, 12), v=(12, 4)),
        x,
    )


def test_products_in_half_precision_are_refused(opened: Opener) -> None:
    text = CASTS.format(kind="float16", stored="float", to=10)
    x = np.random.default_rng(3).normal(size=(8, 6)).astype(np.float16)
    refused = open_bounds(*opened(text, arrays(np.float32, w=(6, 12), v=(12, 4)), {"x": x}))
    assert isinstance(refused, Refusal)
    assert "rounds to a narrower type" in refused.reason
