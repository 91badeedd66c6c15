"""Lines around activation functions, and products whose minimum is known."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.certify.interval import Interval, chord_of_absolute
from cimrobust.certify.rules.bilinear import product_of_activations
from cimrobust.certify.rules.contest import Contest
from cimrobust.certify.rules.max_pool import max_pool
from cimrobust.certify.rules.product import shared_form
from cimrobust.certify.rules.relaxation import Activation
from cimrobust.certify.rules.rule import total
from cimrobust.certify.rules.rule_table import RULES
from cimrobust.certify.rules.smooth import SHAPES
from cimrobust.certify.rules.softmax import softmax
from cimrobust.twin.ops import converter_catalogue as catalogue  # noqa: F401
from cimrobust.twin.ops.converter_registry import Node, Settings, find
from tests.unit.search.conftest import Opener

CASES = [
    *((name, {}) for name in SHAPES),
    ("Relu", {}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("HardSigmoid", {}),
    ("Clip", {"min": -1.0, "max": 0.5}),
]


def node_of(op: str, attributes: dict[str, object]) -> Node:
    domain = "com.microsoft" if op == "Swish" and find("", op, 99) is None else ""
    version = 10 if op == "Clip" else 99
    return Node(
        op, op, domain, version, attributes, ("x",), ("y",), (1,), (), Settings(dtype=torch.float64)
    )


@pytest.mark.parametrize(
    ("op", "attributes"), [("Relu", {}), ("Clip", {"min": 0.0}), ("Clip", {"min": 0.0, "max": 6.0})]
)
def test_nothing_behind_a_rectifier_is_negative(op: str, attributes: dict[str, object]) -> None:
    node = node_of(op, attributes)
    converter = find(node.domain, op, node.version)
    assert converter is not None
    made = RULES[op](node, converter(node)).forward(
        [Interval(torch.tensor([-2.0, 1.0]).double(), torch.tensor([-1.0, 3.0]).double())]
    )
    assert made.is_nonnegative
    assert (made.hi >= torch.tensor([0.0, 3.0])).all()


def test_a_clip_whose_lower_limit_is_above_the_upper_one_gives_the_upper_one() -> None:
    node = node_of("Clip", {"min": 1.0, "max": -1.0})
    data = Interval(torch.tensor([[-2.0, 0.0]]).double(), torch.tensor([[2.0, 0.5]]).double())
    made = RULES["Clip"](node, torch.clamp).forward([data])
    assert ((made.lo <= -1.0) & (made.hi >= -1.0) & (made.hi < -0.99)).all()


def test_no_maximum_is_below_the_lowest_float() -> None:
    node = node_of("MaxPool", {"kernel_shape": [1, 2]})
    masked = Interval.point(torch.full((1, 1, 1, 2), -torch.inf, dtype=torch.float64))
    made = RULES["MaxPool"](node, lambda x: x.amax(-1, keepdim=True)).forward([masked]).known()
    assert made.hi.min() >= float(np.finfo(np.float32).min)


@pytest.mark.parametrize(("op", "attributes"), CASES)
def test_lines_hold_the_function(op: str, attributes: dict[str, object]) -> None:
    node = node_of(op, attributes)
    converter = find(node.domain, op, node.version)
    assert converter is not None
    kernel = converter(node)
    rule = RULES[op](node, kernel)
    random = np.random.default_rng(0)
    ends = np.sort(
        random.normal(scale=random.choice([0.05, 1.0, 8.0], (4000, 1)), size=(4000, 2))
        + random.normal(scale=3.0, size=(4000, 1)),
        axis=1,
    )
    ends[:20, 1] = ends[:20, 0]
    data = Interval(*torch.from_numpy(ends).T)
    x = data.lo + torch.linspace(0, 1, 201, dtype=torch.float64)[:, None] * (data.hi - data.lo)
    y = kernel(x)
    made = rule.forward([data])
    assert (made.lo <= y).all()
    assert (y <= made.hi).all()
    form = torch.from_numpy(random.normal(size=(3, 4000, 1)))
    wide = Interval(data.lo[:, None], data.hi[:, None])
    pulled = rule.backward(form, [wide], rule.forward([wide]))
    assert pulled.coefs[0] is not None
    assert made.rounding is not None
    below = (
        pulled.coefs[0][..., 0] * x[:, None] + pulled.constant - form[..., 0].abs() * made.rounding
    )
    assert (below <= form[..., 0] * y[:, None]).all()


@pytest.mark.parametrize("op", SHAPES)
def test_derivatives_are_within_their_bounds(op: str) -> None:
    node = node_of(op, {})
    converter = find(node.domain, op, node.version)
    assert converter is not None
    kernel, shape = converter(node), SHAPES[op]
    x = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    x = x[
        torch.stack([(x - jump).abs() > 1e-3 for jump in (*shape.jumps, 0.0)]).all(0)
    ].requires_grad_()
    (slope,) = torch.autograd.grad(kernel(x).sum(), x, create_graph=True)
    curvature = (
        torch.zeros_like(x)
        if not slope.requires_grad
        else torch.autograd.grad(slope.sum(), x, allow_unused=True)[0]
    )
    assert slope.abs().max() <= shape.steepness
    assert curvature.abs().max() <= shape.curvature
    assert not shape.is_rising or slope.min() >= 0


def test_line_above_the_absolute_value() -> None:
    middle, radius = (
        torch.tensor([[1.0, -1.0, 0.5, 0.0, 0.0, 2.0]], dtype=torch.float64),
        torch.tensor([[0.5, 1.0, 2.0, 1.0, 0.0, 0.0]], dtype=torch.float64),
    )
    slope, shift = chord_of_absolute(middle, radius)
    ends = torch.stack([middle - radius, middle + radius])
    torch.testing.assert_close(slope * ends + shift, ends.abs())


def test_product_with_one_device_for_all_positions_is_exact_for_known_activations() -> None:
    generator = torch.Generator().manual_seed(0)
    form, data, low, high = (
        torch.rand(size, generator=generator, dtype=torch.float64) - 0.5
        for size in ((1, 1, 1, 2, 4), (1, 1, 3, 4), (1, 2, 3), (1, 2, 3))
    )
    weight = Interval(torch.minimum(low, high), torch.maximum(low, high))
    pulled, constant = shared_form(form, Interval(data, data), weight)
    best = min(
        float(
            (
                form[0, 0, 0]
                * (torch.tensor(corner, dtype=torch.float64).reshape(2, 3) @ data[0, 0])
            ).sum()
        )
        for corner in itertools.product(
            *zip(weight.lo.flatten().tolist(), weight.hi.flatten().tolist(), strict=True)
        )
    )
    assert float(total(pulled, data) + constant) == pytest.approx(best, abs=1e-12)


def test_lines_around_a_maximum() -> None:
    generator = torch.Generator().manual_seed(1)
    node = Node(
        "p",
        "MaxPool",
        "",
        12,
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
        ("x",),
        ("y",),
        (1,),
        (),
        Settings(),
    )
    converter = find("", "MaxPool", 12)
    assert converter is not None
    rule = max_pool(node, converter(node))
    lo = torch.randn(2, 3, 5, 5, generator=generator, dtype=torch.float64)
    data = Interval(lo, lo + 1.5 * torch.rand(lo.shape, generator=generator, dtype=torch.float64))
    made = rule.forward([data])
    form = torch.randn(4, *made.lo.shape, generator=generator, dtype=torch.float64)
    pulled = rule.backward(form, [data], made)
    assert isinstance(pulled.coefs[0], torch.Tensor)
    for _ in range(200):
        x = data.lo + torch.rand(lo.shape, generator=generator, dtype=torch.float64) * (
            data.hi - data.lo
        )
        assert (
            total(pulled.coefs[0], x) + pulled.constant <= total(form, rule.kernel(x)) + 1e-12
        ).all()


def test_plane_above_a_maximum_of_elements_whose_differences_are_known() -> None:
    generator = torch.Generator().manual_seed(2)
    shared = torch.randn(1, 60, 3, 1, 1, generator=generator, dtype=torch.float64)
    x = (
        shared
        + torch.randn(400, 60, 3, 1, 1, generator=generator, dtype=torch.float64)
        + 0.4 * torch.rand(400, 60, 3, 6, 4, generator=generator, dtype=torch.float64)
    )
    loose = Contest.of(x.amin(0), x.amax(0))
    above = x - (x * loose.reference).sum(3, keepdim=True)
    own = loose.reference > 0
    tight = replace(
        loose,
        least=above.amin(0).masked_fill(own, -1e300),
        most=above.amax(0).masked_fill(own, -1e300),
    )
    heights = []
    for contest in (loose, tight):
        slope, shift = contest.plane()
        height = (slope * x).sum(3) + shift
        assert (height >= x.amax(3) - 1e-12).all()
        assert (contest.top() >= x.amax((0, 3)) - 1e-12).all()
        heights.append(height.mean())
    assert heights[1] - x.amax(3).mean() < 0.3 * (heights[0] - x.amax(3).mean())


@pytest.mark.parametrize("width", [0.01, 0.3, 3.0])
def test_planes_around_softmax(width: float) -> None:
    generator = torch.Generator().manual_seed(3)
    node = Node("s", "Softmax", "", 13, {"axis": 1}, ("x",), ("y",), (1,), (), Settings())
    converter = find("", "Softmax", 13)
    assert converter is not None
    rule = softmax(node, converter(node))
    lo = 2.0 * torch.randn(5, 6, 4, generator=generator, dtype=torch.float64)
    data = Interval(lo, lo + width * torch.rand(lo.shape, generator=generator, dtype=torch.float64))
    made = rule.forward([data])
    form = torch.randn(3, 5, 6, 4, generator=generator, dtype=torch.float64)
    pulled = rule.backward(form, [data], made)
    assert isinstance(pulled.coefs[0], torch.Tensor)
    gap = 0.0
    for _ in range(300):
        x = data.lo + torch.rand(lo.shape, generator=generator, dtype=torch.float64).round() * (
            data.hi - data.lo
        )
        y = torch.softmax(x, 1)
        assert ((made.lo <= y) & (y <= made.hi)).all()
        below = total(pulled.coefs[0], x) + pulled.constant
        assert (below <= total(form, y) + 1e-12).all()
        gap += float((total(form, y) - below).mean()) / 300
    ends = total(form.clamp(min=0), made.lo) + total(form.clamp(max=0), made.hi)
    assert width > 1.0 or gap < 0.2 * float(
        (total(form, torch.softmax(data.middle, 1)) - ends).mean()
    ), "planes must beat ends in small boxes"


@pytest.mark.parametrize(
    ("op", "shapes"), [("MatMul", ((4, 2, 3, 5), (4, 2, 5, 6))), ("Mul", ((4, 3, 5), (4, 1, 5)))]
)
def test_products_of_two_activations(op: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    generator = torch.Generator().manual_seed(4)
    node = Node("m", op, "", 13, {}, ("a", "b"), ("y",), (1, 1), (), Settings())
    converter = find("", op, 13)
    assert converter is not None
    kernel = converter(node)
    rule = product_of_activations(node, kernel)
    ends = [torch.randn(size, generator=generator, dtype=torch.float64) for size in shapes]
    data = [
        Interval(end, end + torch.rand(end.shape, generator=generator, dtype=torch.float64))
        for end in ends
    ]
    made = rule.forward(data)
    form = torch.randn(3, *made.lo.shape, generator=generator, dtype=torch.float64)
    pulled = rule.backward(form, data, made)
    for _ in range(300):
        a, b = (
            each.lo
            + torch.rand(each.lo.shape, generator=generator, dtype=torch.float64).round()
            * 2
            * each.radius
            for each in data
        )
        y = kernel(a, b)
        assert ((made.lo <= y) & (y <= made.hi)).all()
        assert isinstance(pulled.coefs[0], torch.Tensor)
        assert isinstance(pulled.coefs[1], torch.Tensor)
        assert (
            total(pulled.coefs[0], a) + total(pulled.coefs[1], b) + pulled.constant
            <= total(form, y) + 1e-10
        ).all()


def test_one_layer_is_bounded_exactly(opened: Opener) -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> net (float[N, 6] x) => (float[N, 3] y) <float[6,'
        " 3] w> { y = MatMul(x, w) }"
    )
    random = np.random.default_rng(0)
    weights, x = (
        random.normal(size=(6, 3)).astype(np.float32),
        random.normal(size=(10, 6)).astype(np.float32),
    )
    runtime, placement = opened(text, {"w": weights}, {"x": x})
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork)
    tensor = placement.tensors["w"]
    wide, labels = x.astype(np.float64), runtime.task.labels
    middle = wide @ (
        tensor.nominal.astype(np.float64) + 0.5 * (tensor.lo.astype(np.float64) + tensor.hi)
    )
    reach = np.abs(wide) @ (0.5 * (tensor.hi.astype(np.float64) - tensor.lo))
    own = np.arange(10)
    margins = (middle - reach)[own, labels][:, None] - (middle + reach)
    margins[own, labels] = np.inf
    for method in ("interval", "linear"):
        bound = certify(network, method=method).margin  # type: ignore[arg-type]
        assert (bound <= margins.min(1)).all()
        # 14 float32 roundings of two sums of magnitude below 20
        np.testing.assert_allclose(bound, margins.min(1), atol=4e-5)


def test_activation_of_one_sign_is_one_line() -> None:
    node = node_of("Relu", {})
    rule = RULES["Relu"](node, torch.relu)
    assert isinstance(rule, Activation)
    lines = rule.lines(Interval(torch.tensor([[1.0, -2.0, 0.0]]), torch.tensor([[2.0, -1.0, 3.0]])))
    assert lines.lower_slope.tolist() == lines.upper_slope.tolist() == [[1.0, 0.0, 1.0]]
    assert not lines.upper_shift.any()
