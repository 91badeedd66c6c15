"""Operators whose bounds are held against onnxruntime on drawn chips."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from cimrobust.certify.backward import lower_bounds
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.propagate import propagate
from cimrobust.certify.refusal import Refusal
from cimrobust.data.decision import Decision
from tests.unit.certify.test_soundness import random_chips
from tests.unit.search.conftest import Opener

RNG = np.random.default_rng(6)
ROWS = "(float[N, 6] x) => (float[N, {size}] y)"
IMAGES = "(float[N, 2, 4, 5] x) => (float[N, {size}] y)"
WEIGHTS = {
    "w": RNG.normal(size=(6, 6)).astype(np.float32),
    "k": RNG.normal(size=(3, 2, 2, 2)).astype(np.float32),
}
EMPTY = np.zeros(0, np.float32)
TWICE = np.array([1, 1, 2, 2], np.float32)


def resized(attributes: str, scales: np.ndarray = TWICE, opset: int = 13) -> tuple:
    """Return a case of a Resize of an image."""
    roi = "" if opset < 11 else ", none"
    constants = {"scales": scales, **({} if opset < 11 else {"none": EMPTY})}
    return IMAGES, f"z = Resize<{attributes}>(h{roi}, scales)", constants, opset


#: By name: shapes of input and output, what follows one product or convolution h and makes z,
#: constants, operator set.
CASES: dict[str, tuple[str, str, Mapping[str, np.ndarray], int]] = {
    **{
        f"{mode} resize, {how}": resized(
            f'mode="{mode}", coordinate_transformation_mode="{how}"',
            np.array([1, 1, *factors], np.float32),
        )
        for mode in ("linear", "cubic")
        for how, factors in {
            "half_pixel": (2, 1.7),
            "asymmetric": (0.5, 3),
            "align_corners": (2, 0.6),
            "pytorch_half_pixel": (1, 2.5),
        }.items()
    },
    "linear resize of opset 10": resized('mode="linear"', opset=10),
    "steeper cubic resize": resized('mode="cubic", cubic_coeff_a=-0.5'),
    "upsample": (IMAGES, 'z = Upsample<mode="linear">(h, s)', {"s": TWICE}, 9),
    "upsample by attribute": (
        IMAGES,
        'z = Upsample<mode="linear", scales=[1.0, 1.0, 2.0, 3.0]>(h)',
        {},
        8,
    ),
    **{
        f"LRN of {size}": (
            IMAGES,
            f"z = LRN<size={size}, alpha={alpha}, beta={beta}, bias=1.5>(h)",
            {},
            13,
        )
        for size, alpha, beta in ((3, 0.5, 0.75), (1, 3.0, 0.5), (5, 1e-4, 1.0))
    },
    **{
        f"{op} of three": (ROWS, f"z = {op}(h, x, c)", {"c": WEIGHTS["w"][0]}, 13)
        for op in ("Max", "Min", "Sum", "Mean")
    },
    "Sum of one": (ROWS, "z = Sum(h)", {}, 13),
    **{
        f"{op} of opset {opset}": (
            ROWS,
            "a = Abs(h)\n b = Add(a, c)\n"
            + (f"r = {op}(b, i)" if opset == 18 else f"r = {op}<axes=[-1]>(b)")
            + "\n z = Sub(h, r)",
            {"c": np.float32(0.1), **({"i": np.array([1])} if opset == 18 else {})},
            opset,
        )
        for op in ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")
        for opset in (13, 18)
    },
    **{
        f"running sum {attributes}": (ROWS, f"z = CumSum<{attributes}>(h, a)", {"a": axis}, 14)
        for attributes, axis in {
            "exclusive=0": np.array(1),
            "exclusive=1": np.array(-1),
            "reverse=1": np.array([1]),
        }.items()
    },
    **{
        f"power {exponent}": (
            ROWS,
            "a = Abs(h)\n b = Add(a, c)\n z = Pow(b, p)",
            {"c": np.float32(0.1), "p": np.float32(exponent)},
            13,
        )
        for exponent in (0.5, -0.75, 1.7, -3.0, 4.0, 1.0)
    },
    "LogSoftmax": (ROWS, "l = LogSoftmax(h)\n z = MatMul(l, v)", {"v": WEIGHTS["w"].T}, 13),
    "LogSoftmax of channels": (IMAGES, "z = LogSoftmax<axis=1>(h)", {}, 13),
    "LogSoftmax of opset 11": (ROWS, "l = LogSoftmax<axis=1>(h)\n z = Abs(l)", {}, 11),
    "LogSoftmax of far scores": (
        ROWS,
        "f = Mul(h, c)\n l = LogSoftmax(f)\n z = Abs(l)",
        {"c": np.float32(100)},
        13,
    ),
    **{
        name: (
            ROWS,
            f"q = QuantizeLinear(h, s, o)\n r = com.microsoft.{body}\n"
            " z = DequantizeLinear(r, t, o)",
            {"s": np.float32(0.03), "t": np.float32(0.05), "o": np.uint8(120)},
            13,
        )
        for name, body in {
            "product of levels": "QLinearMul(q, s, o, q, s, o, t, o)",
            "sum of levels": "QLinearAdd(q, s, o, q, s, o, t, o)",
            "sigmoid of levels": "QLinearSigmoid(q, s, o, t, o)",
            "joined levels": "QLinearConcat<axis=1>(t, o, q, s, o, q, t, o)",
        }.items()
    },
    "the first power": (ROWS, "z = Pow(h, p)", {"p": np.float32(1)}, 13),
    **{
        f"{op} of several images": (
            IMAGES,
            f"r = Reshape(h, s)\n c = {body}\n z = Reshape(c, t)",
            {
                "s": np.array([-1, 1, 3, 4]),
                "t": np.array([-1, 3, size]),
                **({"f": WEIGHTS["k"][:2, :1]} if "f" in body else {}),
            },
            13,
        )
        for op, body, size in (
            ("Conv", "Conv(r, f)", 12),
            ("MaxPool", "MaxPool<kernel_shape=[2, 2]>(r)", 6),
            ("GlobalMaxPool", "GlobalMaxPool(r)", 1),
        )
    },
    "Celu": (ROWS, "z = Celu(h)", {}, 13),
    "triangle": (IMAGES, "z = Trilu<upper=0>(h)", {}, 14),
    "chosen columns": (
        ROWS,
        "z = Compress<axis=1>(h, c)",
        {"c": np.array([1, 0, 1, 1, 0, 0], bool)},
        13,
    ),
    "resize to sizes": (
        IMAGES,
        'z = Resize<mode="linear", axes=[2, 3]>(h, , , sizes)',
        {"sizes": np.array([7, 2])},
        18,
    ),
}


def opened_case(opened: Opener, name: str, *, tolerance: float = 0.05):
    """Return the runtime and the placement of a case, labelled with zeros."""
    shapes, body, constants, opset = CASES[name]
    is_image = shapes is IMAGES
    first = "h = Conv(x, k)" if is_image else "h = MatMul(x, w)"
    weights = {"k" if is_image else "w": WEIGHTS["k" if is_image else "w"]}
    x = RNG.normal(size=(3, *((2, 4, 5) if is_image else (6,)))).astype(np.float32)
    return opened(
        f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> net'
        f" {shapes.format(size='M')} {{ {first}\n {body}\n y = Flatten(z) }}",
        {**weights, **constants},
        {"x": x},
        tolerance=tolerance,
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("tolerance", [1e-6, 0.05])
def test_no_chip_leaves_the_bounds(opened: Opener, name: str, tolerance: float) -> None:
    runtime, placement = opened_case(opened, name, tolerance=tolerance)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    state = propagate(
        network.plan, network.inputs, network.constants, network.weights(1.0), effort=0.0
    )
    scores = state.interval(network.plan.tensor)
    assert scores.lo.isfinite().all()
    assert scores.hi.isfinite().all()
    generator = torch.Generator().manual_seed(1)
    forms = torch.randn(20, *scores.lo.shape, generator=generator, dtype=torch.float64)
    bound = lower_bounds(state, network.plan.tensor, forms)
    assert bound.isfinite().all()
    for chip in random_chips(placement, 1.0, 6):
        made = torch.from_numpy(runtime.plain.run(chip, runtime.dataset.inputs)).double()
        assert ((scores.lo <= made) & (made <= scores.hi)).all()
        assert (bound <= (forms * made).flatten(2).sum(-1)).all()


@pytest.mark.parametrize(
    ("body", "constants", "reason"),
    [
        (
            "q = QuantizeLinear(h, s, o)\n d = DequantizeLinear(q, s, o)\n"
            " p = MaxPool<kernel_shape=[1, 1]>(d)\n"
            " r = QuantizeLinear(p, t, o)\n z = DequantizeLinear(r, t, o)",
            {"s": np.float32(0.03), "t": np.float32(0.05), "o": np.uint8(120)},
            "an engine may merge it with the quantiser in front of it, which has other levels",
        ),
        (
            'z = Resize<mode="linear", antialias=1>(h, , s)',
            {"s": TWICE},
            "it weights elements in another way than plain interpolation does",
        ),
        (
            'z = Resize<mode="cubic", exclude_outside=1>(h, , s)',
            {"s": TWICE},
            "it weights elements in another way than plain interpolation does",
        ),
        (
            'z = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">'
            "(h, r, s)",
            {"s": TWICE, "r": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)},
            "it resizes a region, with a jump at its edge",
        ),
        (
            'z = Resize<mode="linear", keep_aspect_ratio_policy="not_larger", axes=[2, 3]>'
            "(h, , , t)",
            {"t": np.array([6, 6])},
            "its factors follow from the aspect ratio",
        ),
        (
            'z = Resize<mode="cubic", cubic_coeff_a=-1.5>(h, , s)',
            {"s": TWICE},
            "its cubic has the parameter -1.5, not one from -1 to 0",
        ),
    ],
)
def test_what_has_no_rule_says_why(
    opened: Opener, body: str, constants: Mapping[str, np.ndarray], reason: str
) -> None:
    runtime, placement = opened(
        '<ir_version: 8, opset_import: ["" : 18]> net (float[N, 2, 4, 5] x) => (float[N, M] y)'
        f" {{ h = Conv(x, k)\n {body}\n y = Flatten(z) }}",
        {"k": WEIGHTS["k"], **constants},
        {"x": RNG.normal(size=(3, 2, 4, 5)).astype(np.float32)},
        decision=Decision(),
    )
    refused = open_bounds(runtime, placement)
    assert isinstance(refused, Refusal)
    assert reason in refused.reason
