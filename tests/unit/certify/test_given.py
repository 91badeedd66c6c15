"""What the inputs alone decide, written-out normalisations, and masks, in bounds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from cimrobust.certify.interval import Interval
from cimrobust.certify.plan import Plan, make_plan
from cimrobust.certify.propagate import propagate
from cimrobust.certify.refusal import NotBoundedError
from cimrobust.certify.rules.composed import Quotient
from cimrobust.certify.rules.layer_norm import LayerNorm
from cimrobust.twin.to_torch import Twin, to_torch

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net'


def planned(text: str, **arrays: np.ndarray) -> tuple[Plan, Twin]:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()
    )
    twin = to_torch(model, weight_names=["W"]).double()
    return make_plan(twin, "y"), twin


def check(plan: Plan, twin: Twin, inputs: dict[str, np.ndarray], radius: float = 0.05) -> Interval:
    """Check that chips drawn from a box are inside the bounds, and return these."""
    tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
    floats = {
        name: value.double() if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    nominal = twin.weights["W"]
    box = Interval(nominal - radius, nominal + radius)
    state = propagate(plan, floats, {}, {"W": box}, effort=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        share = torch.rand(nominal.shape, generator=generator, dtype=torch.float64).round()
        made = twin(tensors, {"W": nominal + radius * (2 * share - 1)})["y"]
        assert bool(
            (made >= state.interval("y").lo).all() and (made <= state.interval("y").hi).all()
        )
    return state.interval("y")


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 1, shape).astype(np.float32)


def test_embeddings_and_masks_of_integer_inputs_are_exact() -> None:
    text = f"""{HEAD} (int64[n, 4] ids, int64[n, 4] mask) => (float[n, 4, 3] y) {{
        e = Gather(table, ids) f = Cast<to = 1>(mask) g = Sub(one, f) b = Mul(g, far) u = Unsqueeze(b, two)
        h = MatMul(e, W) y = Add(h, u)
    }}"""  # noqa: E501
    plan, twin = planned(
        text,
        table=normal(9, 5),
        W=normal(5, 3),
        one=np.float32(1),
        far=np.asarray(np.finfo(np.float32).min),
        two=np.asarray([2]),
    )
    inputs = {
        "ids": np.random.default_rng(0).integers(0, 9, (6, 4)),
        "mask": np.random.default_rng(0).integers(0, 2, (6, 4)),
    }
    found = check(plan, twin, inputs)
    assert (
        float((found.hi - found.lo)[torch.as_tensor(inputs["mask"]) == 1].max()) < 2.0
    )  # no rounding of numbers as large as the filter


def test_masks_of_booleans_are_exact() -> None:
    text = f"""{HEAD} (float[n, 5] x, bool[n, 3] keep) => (float[n, 3] y) {{
        h = MatMul(x, W) f = Cast<to = 1>(keep) y = Mul(h, f)
    }}"""
    plan, twin = planned(text, W=normal(5, 3))
    keep = np.random.default_rng(0).integers(0, 2, (6, 3)).astype(bool)
    found = check(plan, twin, {"x": normal(6, 5), "keep": keep})
    assert float(found.hi[torch.as_tensor(~keep)].abs().max()) < 1e-30
    assert float(found.lo[torch.as_tensor(~keep)].abs().max()) < 1e-30


def test_float_arithmetic_on_inputs_is_rounded() -> None:
    text = (
        f"{HEAD} (float[n, 5] x) => (float[n, 3] y) {{ a = Mul(x, c) h = Neg(a) y = MatMul(h, W) }}"
    )
    plan, twin = planned(text, c=np.float32(0.1), W=normal(5, 3))
    state = propagate(
        plan,
        {"x": torch.as_tensor(normal(6, 5)).double()},
        {},
        {"W": Interval.point(twin.weights["W"])},
        effort=0.0,
    )
    assert not state.interval("a").is_point
    check(plan, twin, {"x": normal(6, 5)})


def test_a_comparison_of_what_is_rounded_is_not_bounded() -> None:
    text = (
        f"{HEAD} (float[n, 5] x) => (float[n, 3] y) {{ a = Mul(x, c) l = Less(a, c) w = Where(l, x,"
        " c) y = MatMul(w, W) }"
    )
    with pytest.raises(NotBoundedError, match="Less"):
        planned(text, c=np.float32(0.1), W=normal(5, 3))


NORMS = {
    "squares": (
        "m = ReduceMean<axes = [-1]>(h) c = Sub(h, m) s = Mul(c, c) v = ReduceMean<axes = [-1]>(s)"
        " e = Add(v, eps) r = Sqrt(e) y = Div(c, r)"
    ),
    "powers": (
        "m = ReduceMean<axes = [-1]>(h) c = Sub(h, m) s = Pow(c, two) v = ReduceMean<axes ="
        " [-1]>(s) e = Add(eps, v) r = Sqrt(e) y = Div(c, r)"
    ),
    "root mean square": (
        "s = Mul(h, h) v = ReduceMean<axes = [-1]>(s) e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r)"
        " y = Mul(h, i)"
    ),
    "one over the root": (
        "s = Mul(h, h) v = ReduceMean<axes = [-1]>(s) e = Add(v, eps) r = Sqrt(e) i = Div(one, r) y"
        " = Mul(i, h)"
    ),
}


@pytest.mark.parametrize("body", NORMS.values(), ids=NORMS)
def test_a_written_out_normalisation_is_recognised(body: str) -> None:
    text = f"{HEAD} (float[n, 5] x) => (float[n, 6] y) {{ h = MatMul(x, W) {body} }}"
    plan, twin = planned(
        text, W=normal(5, 6), eps=np.float32(1e-5), two=np.float32(2), one=np.float32(1)
    )
    assert isinstance(plan.steps[-1].rule, LayerNorm)
    assert len(plan.steps) == 2
    check(plan, twin, {"x": normal(7, 5)})


def test_a_quotient_that_is_no_normalisation_is_not_taken_for_one() -> None:
    body = (
        "m = ReduceMean<axes = [-1]>(h) c = Sub(h, m) s = Mul(h, h) v = ReduceMean<axes = [-1]>(s)"
        " e = Add(v, eps) r = Sqrt(e) y = Div(c, r)"
    )
    plan, twin = planned(
        f"{HEAD} (float[n, 5] x) => (float[n, 6] y) {{ h = MatMul(x, W) {body} }}",
        W=normal(5, 6),
        eps=np.float32(1e-5),
    )
    assert not any(isinstance(step.rule, LayerNorm) for step in plan.steps)
    assert isinstance(plan.steps[-1].rule, Quotient)
    check(plan, twin, {"x": normal(7, 5)})


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("c = Max(W, W) y = MatMul(x, c)", "it reads stored weights"),
        ('c = Transpose(W) y = Einsum<equation = "nk,kd->nd">(c, x)', "a weight"),
    ],
)
def test_weights_in_other_places_are_refused(body: str, reason: str) -> None:
    with pytest.raises(NotBoundedError, match=reason):
        planned(f"{HEAD} (float[n, 5] x) => (float[n, 6] y) {{ {body} }}", W=normal(5, 6))


@pytest.mark.parametrize("exponent", [2, 3])
def test_small_powers_are_products(exponent: int) -> None:
    text = f"{HEAD} (float[n, 5] x) => (float[n, 6] y) {{ h = MatMul(x, W) y = Pow(h, p) }}"
    check(*planned(text, W=normal(5, 6), p=np.float32(exponent)), {"x": normal(7, 5)})


def test_a_split_is_bounded() -> None:
    text = (
        f"{HEAD} (float[n, 5] x) => (float[n, 3] y) {{ h = MatMul(x, W) a, b = Split<axis = 1>(h,"
        " sizes) y = Sub(a, b) }"
    )
    check(*planned(text, W=normal(5, 6), sizes=np.asarray([3, 3])), {"x": normal(7, 5)})


@pytest.mark.parametrize("centred", [True, False])
def test_forms_on_a_normalisation_are_never_larger_than_it(centred: bool) -> None:
    rule = LayerNorm(-1, 1e-5, is_centred=centred)
    random = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    middle, radius, gain, shift = draw(4, 6), draw(4, 6).abs() * 0.3, draw(6), draw(6)
    inputs = [Interval(middle - radius, middle + radius), gain, shift]
    output, form = rule.forward(inputs), draw(8, 4, 6)
    pulled = rule.backward(form, inputs, output)
    assert pulled.coefs[0] is not None
    for _ in range(200):
        x = middle + radius * draw(4, 6).clamp(-1, 1)
        moved = x - x.mean(-1, keepdim=True) if centred else x
        y = moved * torch.rsqrt((moved * moved).mean(-1, keepdim=True) + 1e-5) * gain + shift
        assert bool((y >= output.lo).all() and (y <= output.hi).all())
        bound = (pulled.coefs[0] * x).sum(-1) + pulled.constant
        assert bool(((form * y).sum(-1) >= bound - 1e-9).all())
