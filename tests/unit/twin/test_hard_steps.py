"""Gradients of steps: a Sign by any name, and rounding of few levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper, parser
from torch import Tensor

from cimrobust.twin.ops.surrogate import COARSE
from cimrobust.twin.to_torch import Twin, to_torch

X = torch.linspace(-2.5, 2.5, 41)
FORMS = {
    "sign": "y = Sign(x)",
    "greater": "c = Greater(x, zero) \n y = Where(c, one, minus)",
    "greater or equal": "c = GreaterOrEqual(x, zero) \n y = Where(c, one, minus)",
    "less": "c = Less(x, zero) \n y = Where(c, minus, one)",
    "less or equal": "c = LessOrEqual(x, zero) \n y = Where(c, minus, one)",
    "turned": "c = Less(zero, x) \n y = Where(c, one, minus)",
    "not": "c = Less(x, zero) \n n = Not(c) \n y = Where(n, one, minus)",
    "cast": "c = Greater(x, zero) \n f = Cast<to = 1>(c) \n d = Add(f, f) \n y = Sub(d, one)",
}


def twin_of(body: str) -> Twin:
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 13]> g (float[N] x) => (float[N] y) {{ {body} }}'
    )
    values = {"zero": 0.0, "one": 1.0, "minus": -1.0, "scale": 1.0}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in values.items()
        if name in body
    )
    if "point" in body:
        model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), "point"))
    twin = to_torch(model)
    twin.straight_through = True
    return twin


def slopes(twin: Twin, x: Tensor = X) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(twin({"x": x})["y"].sum(), x)
    return gradient


@pytest.mark.parametrize("width", [None, 1.0, 0.3, 0.03])
@pytest.mark.parametrize("form", FORMS)
def test_a_step_has_the_gradient_of_a_sign_however_it_is_written(form, width):
    sign, twin = twin_of(FORMS["sign"]), twin_of(FORMS[form])
    sign.width = twin.width = width
    torch.testing.assert_close(slopes(twin), slopes(sign))
    assert slopes(twin).abs().max() > 0


@pytest.mark.parametrize("width", [None, 0.1])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_computed_does_not_depend_on_the_width(form, width):
    twin = twin_of(FORMS[form])
    with torch.no_grad():
        plain = twin({"x": X})["y"]
    twin.width = width
    torch.testing.assert_close(twin({"x": X.clone().requires_grad_()})["y"], plain, rtol=0, atol=0)


@pytest.mark.parametrize("width", [1.0, 0.3, 0.1])
def test_the_gradient_of_a_sign_is_a_gaussian_of_the_width(width):
    twin = twin_of(FORMS["sign"])
    twin.width = width
    bell = torch.distributions.Normal(0.0, width * X.std(correction=0))
    torch.testing.assert_close(slopes(twin), 2 * bell.log_prob(X).exp())


def test_the_width_follows_what_is_compared():
    # Straight through, all but a few of these values lie where a clamp is flat.
    twin = twin_of(FORMS["sign"])
    assert (slopes(twin, 1000 * X) == 0).double().mean() > 0.9
    twin.width = 1.0
    torch.testing.assert_close(1000 * slopes(twin, 1000 * X), slopes(twin, X))


@pytest.mark.parametrize("body", ["y = Round(x)", "y = Floor(x)", "y = Ceil(x)"])
def test_coarse_rounding_pulls_where_it_steps(body):
    twin = twin_of(body)
    assert (slopes(twin) == 1).all()
    twin.width = 0.05
    edge = 0.5 if "Round" in body else 0.0
    distance = (X - edge - torch.round(X - edge)).abs()
    pulled = slopes(twin)
    assert pulled[distance < 0.01].min() > 1
    assert pulled[distance > 0.4].max() < 0.01
    fine = torch.linspace(0, 1, 100_001, dtype=torch.float64) * 4 - 2
    # A staircase rises by as much as the line that it follows.
    assert abs(slopes(twin.double(), fine).mean() - 1) < 1e-3


def test_wide_steps_of_rounding_run_into_one_another():
    twin = twin_of("y = Round(x)")
    twin.width = 1.0
    assert (slopes(twin) - 1).abs().max() < 5e-3


def test_fine_rounding_stays_straight_through():
    twin = twin_of("y = Round(x)")
    twin.width = 0.05
    assert (slopes(twin, 10 * COARSE * X) == 1).all()


def test_a_coarse_quantiser_pulls_where_it_steps():
    twin = twin_of("q = QuantizeLinear(x, scale, point) \n y = DequantizeLinear(q, scale, point)")
    assert (slopes(twin) == 1).all()
    twin.width = 0.05
    assert slopes(twin)[X.abs() == 1.5].min() > 1
    assert slopes(twin)[X.abs() == 1.0].max() < 0.01


def test_a_comparison_that_others_read_stays_one():
    twin = twin_of(
        "c = Greater(x, zero) \n d = Less(x, one) \n b = And(c, d) \n y = Where(b, x, one)"
    )
    inside = (X > 0) & (X < 1)
    torch.testing.assert_close(slopes(twin), inside.to(torch.float32))


def test_masks_of_infinities_pull_at_nothing():
    twin = twin_of("l = Log(zero) \n c = Greater(x, zero) \n w = Where(c, x, l) \n y = Relu(w)")
    assert torch.isfinite(slopes(twin)).all()


def test_hard_steps_are_listed_with_their_spread():
    twin = twin_of("s = Sign(x) \n r = Round(x) \n y = Add(s, r)")
    with twin.listing_steps() as steps:
        slopes(twin)
        twin({"x": X})
    assert steps == pytest.approx([0.0, float(X.std(correction=0))])
