"""Networks whose tensors do not have their samples in front are bounded as runs of one sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cimrobust.certify.backward import lower_bound
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.certify.each_sample import EachSample, Lifted
from cimrobust.certify.interval import Interval
from cimrobust.certify.plan import Plan, make_plan
from cimrobust.certify.propagate import propagate
from cimrobust.certify.refusal import NotBoundedError, Refusal
from cimrobust.certify.rules.affine import add
from cimrobust.certify.rules.softmax import softmax
from cimrobust.data.decision import Decision
from cimrobust.engine.batches import Feeding
from cimrobust.engine.open import Runtime
from cimrobust.mapping.placement import Placement
from cimrobust.twin.ops.converter_registry import Node, Settings
from cimrobust.twin.ops.twin_step import Step
from cimrobust.twin.to_torch import to_torch
from tests.unit.certify.conftest import NETWORKS, Maker
from tests.unit.certify.test_soundness import opened_bounds, random_chips
from tests.unit.search.conftest import Opener

RNG = np.random.default_rng(11)


def stored(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Return weights of some shapes."""
    random = np.random.default_rng(3)
    return {
        name: (1.4 * random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }


def ends(network: BoundedNetwork, plan: Plan) -> list[torch.Tensor]:
    """Return both ends of all scores on half the box, and a linear bound of their sum."""
    state = propagate(plan, network.inputs, network.constants, network.weights(0.5), effort=0.0)
    scores = state.interval(plan.tensor)
    form = torch.ones_like(scores.lo)[None]
    return [scores.lo, scores.hi, lower_bound(state, plan.tensor, form)]


@pytest.mark.parametrize("name", NETWORKS)
def test_runs_of_one_sample_are_bounded_like_a_batch(make: Maker, name: str) -> None:
    network = opened_bounds(*make(name))
    assert network.twin is not None
    one = {key: samples[:1] for key, samples in network.inputs.items()}
    each = make_plan(
        network.twin, network.plan.tensor, each=EachSample(one, network.constants, has_axis=True)
    )
    batch = make_plan(network.twin, network.plan.tensor)
    for alone, together in zip(ends(network, each), ends(network, batch), strict=True):
        torch.testing.assert_close(alone, together, rtol=1e-9, atol=1e-9)


#: Name, graph, samples of one input, weights, other constants.
ELSEWHERE: dict[str, tuple[str, tuple[int, ...], dict[str, np.ndarray], dict[str, np.ndarray]]] = {
    # nn.MultiheadAttention: time first, and heads and samples along one axis.
    "attention": (
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 4, 6] x) => (float[N, 3] y) {
          t = Transpose<perm = [1, 0, 2]>(x)
          q = MatMul(t, wq)
          k = MatMul(t, wk)
          v = MatMul(t, wv)
          n = Shape<start = 0, end = 1>(x)
          h = Mul(n, two)
          s = Concat<axis = 0>(four, h, three)
          qh = Reshape(q, s)
          kh = Reshape(k, s)
          vh = Reshape(v, s)
          qt = Transpose<perm = [1, 0, 2]>(qh)
          kt = Transpose<perm = [1, 2, 0]>(kh)
          vt = Transpose<perm = [1, 0, 2]>(vh)
          a = MatMul(qt, kt)
          p = Softmax<axis = 2>(a)
          o = MatMul(p, vt)
          ot = Transpose<perm = [1, 0, 2]>(o)
          flat = Concat<axis = 0>(minus, six)
          of = Reshape(ot, flat)
          g = Gemm<transB = 1>(of, wo, bo)
          back = Concat<axis = 0>(four, n, six)
          gb = Reshape(g, back)
          r = Add(gb, t)
          m = ReduceMean<axes = [0], keepdims = 0>(r)
          y = MatMul(m, w)
        }""",
        (4, 6),
        stored(wq=(6, 6), wk=(6, 6), wv=(6, 6), wo=(6, 6), w=(6, 3)),
        {
            "bo": np.full(6, 0.1, np.float32),
            **{
                name: np.array([value], np.int64)
                for name, value in (
                    ("two", 2),
                    ("four", 4),
                    ("three", 3),
                    ("six", 6),
                    ("minus", -1),
                )
            },
        },
    ),
    # Time first, one step after the other, and the largest over time.
    "steps": (
        """<ir_version: 8, opset_import: ["" : 13]>
        net (float[N, 3, 5] x) => (float[N, 4] y) {
          t = Transpose<perm = [1, 0, 2]>(x)
          a, b, c = Split<axis = 0>(t, sizes)
          ha = MatMul(a, w)
          ra = Tanh(ha)
          ua = MatMul(ra, u)
          hb = MatMul(b, w)
          sb = Add(hb, ua)
          rb = Tanh(sb)
          ub = MatMul(rb, u)
          hc = MatMul(c, w)
          sc = Add(hc, ub)
          rc = Relu(sc)
          all = Concat<axis = 0>(ra, rb, rc)
          best = ReduceMax<axes = [0], keepdims = 0>(all)
          s = Softmax<axis = 1>(best)
          y = Gemm(s, v)
        }""",
        (3, 5),
        stored(w=(5, 6), u=(6, 6), v=(6, 4)),
        {"sizes": np.array([1, 1, 1], np.int64)},
    ),
    # Written for one sample a run: a reshape to one row.
    "one a run": (
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 2, 6, 6] x) => (float[1, 3] y) {
          h = Conv<pads = [1, 1, 1, 1]>(x, k)
          r = Relu(h)
          p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
          f = Reshape(p, row)
          g = MatMul(f, w)
          l = Transpose<perm = [1, 0]>(g)
          n = LayerNormalization<axis = 0>(l, gain)
          b = Reshape(n, line)
          y = MatMul(b, v)
        }""",
        (2, 6, 6),
        stored(k=(4, 2, 3, 3), w=(36, 8), v=(8, 3)),
        {
            "row": np.array([1, 36], np.int64),
            "line": np.array([1, 8], np.int64),
            "gain": np.full((8, 1), 0.8, np.float32),
        },
    ),
    # Samples along the second axis for a while, behind a largest over the rest.
    "turned": (
        """<ir_version: 8, opset_import: ["" : 13]>
        net (float[N, 4] x) => (float[N, 3] y) {
          h = MatMul(x, w)
          m = ReduceMax<axes = [1]>(h)
          t = Transpose<perm = [1, 0]>(m)
          r = Relu(t)
          u = Transpose<perm = [1, 0]>(r)
          s = Add(h, u)
          y = MatMul(s, v)
        }""",
        (4,),
        stored(w=(4, 6), v=(6, 3)),
        {},
    ),
    # Masks of minus infinity, added and chosen: what torch exports for attention that is masked.
    "masked": (
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 4, 6] x) => (float[N, 3] y) {
          t = Transpose<perm = [1, 0, 2]>(x)
          q = MatMul(t, wq)
          k = MatMul(t, wk)
          qt = Transpose<perm = [1, 0, 2]>(q)
          kt = Transpose<perm = [1, 2, 0]>(k)
          a = MatMul(qt, kt)
          b = Add(a, causal)
          p = Softmax<axis = 2>(b)
          vt = Transpose<perm = [1, 0, 2]>(t)
          o = MatMul(p, vt)
          g = MatMul(o, wo)
          gt = Transpose<perm = [0, 2, 1]>(g)
          c = MatMul(g, gt)
          d = Where(seen, c, never)
          r = Softmax<axis = 2>(d)
          z = MatMul(r, g)
          m = ReduceMean<axes = [1], keepdims = 0>(z)
          y = MatMul(m, w)
        }""",
        (4, 6),
        stored(wq=(6, 6), wk=(6, 6), wo=(6, 6), w=(6, 3)),
        {
            "causal": np.where(np.tri(4, dtype=bool), 0, -np.inf).astype(np.float32),
            "seen": np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool),
            "never": np.asarray(-np.inf, np.float32),
        },
    ),
    # No axis of samples at all.
    "no axis": (
        """<ir_version: 8, opset_import: ["" : 13]>
        net (float[5] x) => (float[4] y) {
          h = MatMul(x, w)
          c = Add(h, rows)
          r = Relu(c)
          s = ReduceSum<keepdims = 0>(r, first)
          y = MatMul(s, v)
        }""",
        (5,),
        stored(w=(5, 7), v=(7, 4)),
        {
            "rows": RNG.normal(size=(3, 7)).astype(np.float32),
            "first": np.array([0], np.int64),
        },
    ),
}


def opened_elsewhere(opened: Opener, name: str) -> tuple[Runtime, Placement]:
    """Open a network of `ELSEWHERE` on samples labelled with its own decisions."""
    text, shape, weights, constants = ELSEWHERE[name]
    samples = np.random.default_rng(7).normal(size=(6, *shape)).astype(np.float32)
    return opened(text, {**weights, **constants}, {"x": samples}, tolerance=0.005)


def scores_of(runtime: Runtime, chip: Mapping[str, np.ndarray] | None = None) -> torch.Tensor:
    """Return the scores of a chip, or of the network, one run a sample: [samples, classes]."""
    twin = to_torch(
        runtime.at_hand.model,
        weight_names=runtime.deployed.weight_names,
        outputs=[runtime.plain.output],
    ).double()
    weights = {key: torch.tensor(value).double() for key, value in (chip or {}).items()}
    has_axis = runtime.plain.feeding.mode != "none"
    runs = [
        twin({"x": torch.from_numpy(x[None] if has_axis else x)}, weights)[runtime.plain.output]
        for x in np.array(runtime.dataset.inputs["x"])
    ]
    return torch.stack([run.reshape(-1) for run in runs])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_bound_of_no_box_is_the_network(opened: Opener, name: str) -> None:
    runtime, placement = opened_elsewhere(opened, name)
    network = opened_bounds(runtime, placement)
    point = propagate(
        network.plan, network.inputs, network.constants, network.weights(0.0), effort=0.0
    ).interval(network.plan.tensor)
    nominal = {name: tensor.nominal for name, tensor in placement.tensors.items()}
    expected = scores_of(runtime, nominal)
    torch.testing.assert_close(point.middle.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    clean = torch.from_numpy(runtime.clean_output).double().reshape(expected.shape)
    torch.testing.assert_close(scores_of(runtime), clean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_chip_of_the_box_leaves_the_bounds(opened: Opener, name: str) -> None:
    runtime, placement = opened_elsewhere(opened, name)
    network = opened_bounds(runtime, placement)
    plan = network.plan
    state = propagate(plan, network.inputs, network.constants, network.weights(1.0), effort=1e6)
    made = state.interval(plan.tensor)
    form = torch.from_numpy(np.random.default_rng(5).normal(size=(3, *made.lo.shape)))
    least = lower_bound(state, plan.tensor, form)
    for chip in random_chips(placement, 1.0, 40):
        scores = scores_of(runtime, chip).reshape(made.lo.shape)
        assert bool((made.lo <= scores).all())
        assert bool((scores <= made.hi).all())
        assert bool((least <= (form * scores).flatten(2).sum(-1)).all())


@pytest.mark.parametrize("name", ELSEWHERE)
def test_they_certify_samples(opened: Opener, name: str) -> None:
    network = opened_bounds(*opened_elsewhere(opened, name))
    assert certify(network, scale=0.1).certified.sum() >= 4


def test_samples_that_read_others_have_no_bound(opened: Opener) -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    net (float[N, 4] x) => (float[N, 4] y) {
      h = MatMul(x, w)
      t = Transpose<perm = [1, 0]>(h)
      p = Softmax<axis = 1>(t)
      b = Transpose<perm = [1, 0]>(p)
      z = Mul(b, o)
      y = Add(h, z)
    }"""
    samples = RNG.normal(size=(6, 4)).astype(np.float32)
    weights = {**stored(w=(4, 4)), "o": np.asarray(0, np.float32)}
    refused = open_bounds(*opened(text, weights, {"x": samples}, np.zeros(6, np.int64)))
    assert isinstance(refused, Refusal)
    assert refused.reason == "tensor 'p' must not depend on other samples of its batch"


def test_bodies_and_lists_of_samples_have_no_bound() -> None:
    each = EachSample({"x": torch.ones(1, 2)}, {}, has_axis=True)
    node = Node("n", "If", "", 13, {}, (), ("y",), (), ("x",), Settings())
    with pytest.raises(
        NotBoundedError, match=r"n \(If\) must not have a body that reads what diff"
    ):
        each.steps([Step(lambda x: x, (), (), node)], {}, "y")
    node = replace(node, op="SequenceConstruct", inputs=("x",), captures=())
    with pytest.raises(NotBoundedError, match=r"must make tensors, got a dict"):
        each.steps([Step(lambda x: {"x": x}, (), (), node)], {}, "y")
    with pytest.raises(NotBoundedError, match=r"must run on one sample alone, got no samples"):
        each.steps([Step(_fails, (), (), node)], {}, "y")
    node = replace(node, op="Transpose")
    with pytest.raises(NotBoundedError, match=r"'y' must have one row a sample, got shape"):
        each.steps([Step(torch.t, (), (), node)], {}, "y")
    each = EachSample({"x": torch.ones(1, 2), "a": torch.ones(1)}, {}, has_axis=True)
    node = replace(node, op="ReduceMax", inputs=("x", "a"))
    with pytest.raises(NotBoundedError, match=r"n \(ReduceMax\) must have the same axes a sample"):
        each.steps([Step(lambda x, _: x, (), (), node)], {}, "y")
    node = replace(node, op="Conv")
    with pytest.raises(NotBoundedError, match=r"\(Conv\) must read the same weights for every sam"):
        each.steps([Step(lambda x, _: x, (), (), node)], {}, "y")


def _fails(_x: torch.Tensor) -> torch.Tensor:
    raise ValueError("no samples")


def test_networks_of_several_samples_a_run_have_no_bound(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, placement = opened_elsewhere(opened, "turned")
    monkeypatch.setattr(runtime.plain, "feeding", Feeding("fixed", 2))
    refused = open_bounds(runtime, placement)
    assert isinstance(refused, Refusal)
    assert "takes exactly 2 samples a run, and bounds are of runs of any" in refused.reason


@pytest.mark.parametrize("name", ["turned", "no axis"])
def test_bounds_that_miss_the_network_itself_are_refused(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    runtime, placement = opened_elsewhere(opened, name)
    real = EachSample.steps

    def wrong(self: EachSample, *given: Any) -> Lifted:
        """Take one operator for another."""
        lifted = real(self, *given)
        made = [
            replace(step, node=replace(step.node, op="Identity"), kernel=torch.neg)
            if step.node.op == "Relu"
            else step
            for step in lifted.steps
        ]
        return replace(lifted, steps=made)

    monkeypatch.setattr(EachSample, "steps", wrong)
    refused = open_bounds(runtime, placement)
    assert isinstance(refused, Refusal)
    assert "leave out the chip without deviations, which is a fault of this tool" in refused.reason


def test_scores_that_are_all_masked_have_no_ends() -> None:
    """Softmax of minus infinity alone is no number, so that nothing holds it."""
    node = Node("n", "Softmax", "", 13, {}, ("x",), ("y",), (), (), Settings())
    never = torch.tensor([[0.0, -math.inf], [-math.inf, -math.inf]], dtype=torch.float64)
    data = Interval.point(never)
    rule = softmax(node, torch.softmax)
    made = rule.forward([data])
    assert made.hi[0, 1] < 1e-15
    assert torch.allclose(made.lo[0, 0], torch.tensor(1.0, dtype=torch.float64))
    assert made.lo[1].tolist() == [-math.inf] * 2
    assert made.hi[1].tolist() == [math.inf] * 2
    form = torch.ones(1, 2, 2, dtype=torch.float64)
    constant = rule.backward(form, [data], made).constant
    assert math.isfinite(constant[0, 0])
    assert not math.isfinite(constant[0, 1])


def test_ends_that_arithmetic_left_unknown_are_infinite() -> None:
    nan = torch.tensor([1.0, math.nan, -math.inf])
    known = Interval(nan, torch.tensor([2.0, 3.0, math.nan]), torch.tensor([0.1, math.nan, 0.1]))
    assert known.known().lo.tolist() == [1.0, -math.inf, -math.inf]
    assert known.known().hi.tolist() == [2.0, 3.0, math.inf]
    masked = torch.tensor([-math.inf, 1.0])
    assert Interval.rounded(masked, masked, masked.abs() * 0.1).hi[0] == -math.inf


def test_a_form_that_counts_what_is_masked_has_no_bound() -> None:
    node = Node("n", "Add", "", 13, {}, ("x", "m"), ("y",), (), (), Settings())
    data = Interval.point(torch.ones(1, 2, dtype=torch.float64))
    mask = torch.tensor([0.0, -math.inf], dtype=torch.float64)
    rule = add(node, torch.add)
    made = rule.forward([data, mask])
    forms = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=torch.float64)
    constant = rule.backward(forms, [data, mask], made).constant
    assert constant[0, 0] == 0.0
    assert math.isnan(constant[1, 0])


def test_labels_without_an_axis_of_samples_have_no_bound(opened: Opener) -> None:
    text = """<ir_version: 8, opset_import: ["" : 13]>
    net (float[5] x) => (int64[1] y) {
      h = MatMul(x, w)
      y = ArgMax<axis = 0>(h)
    }"""
    samples = RNG.normal(size=(4, 5)).astype(np.float32)
    decision = Decision(read="label")
    refused = open_bounds(
        *opened(text, stored(w=(5, 3)), {"x": samples}, np.zeros(4, np.int64), decision=decision)
    )
    assert isinstance(refused, Refusal)
    assert refused.reason == "labels of a network without an axis of samples are not followed"
