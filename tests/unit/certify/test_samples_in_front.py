"""Networks whose tensors have their samples along other axes: recurrent layers, time first,
attention with heads and windows among the samples.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cimrobust.certify import bound_batch
from cimrobust.certify.bounded_network import BoundedNetwork, open_bounds
from cimrobust.certify.bounds import certify
from cimrobust.certify.propagate import propagate
from cimrobust.certify.refusal import Refusal
from cimrobust.certify.sample_layouts import SampleLayout, layouts_of
from tests.unit.certify.test_soundness import random_chips
from tests.unit.search.conftest import Opener

HEAD = '<ir_version: 8, opset_import: ["" : 14]> net '
RNG = np.random.default_rng(8)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
Arrays = dict[str, np.ndarray]


def check_margins(opened: Opener, text: str, weights: Arrays, x: np.ndarray) -> None:
    """Check that the margins of no chip of the box, corners among them, are below their bounds."""
    runtime, placement = opened(text, weights, {"x": x}, tolerance=0.004)
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork), network
    linear, interval = certify(network).margin, certify(network, method="interval").margin
    assert (linear >= interval).all()
    assert (linear > 0).sum() >= 2
    for chip in random_chips(placement, 1.0, 40):
        scores = runtime.plain.run(chip, runtime.dataset.inputs)
        right = np.eye(scores.shape[1], dtype=bool)[runtime.task.labels]
        margin = scores[right] - np.where(right, -np.inf, scores).max(axis=1)
        assert (margin >= linear).all()


@pytest.mark.parametrize(
    ("axis", "each", "is_outer", "shape"),
    [(1, 1, True, (5, 2)), (0, 3, True, (3, 4)), (0, 3, False, (3, 4)), (2, 2, False, (3, 4, 2))],
)
def test_a_layout_is_found_and_turns_back(
    axis: int, each: int, is_outer: bool, shape: tuple[int, ...]
) -> None:
    layout = SampleLayout(shape, axis, each, is_outer)
    rest = [size for place, size in enumerate(shape) if place != axis or each > 1]
    front = torch.randn(3, *rest, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = layout.back(front)
    torch.testing.assert_close(layout.front(whole), front, rtol=0, atol=0)

    def run(names: list[str], count: int) -> dict[str, torch.Tensor]:
        return {"t": layout.back(front[:count]), "fixed": torch.zeros(4)}

    one = layout.back(front[:1])
    assert layouts_of(run, ["t", "fixed"]) == {
        "t": SampleLayout(tuple(one.shape), axis, each, is_outer)
    }


def test_a_tensor_that_grows_along_two_axes_has_no_layout() -> None:
    def run(names: list[str], count: int) -> dict[str, torch.Tensor]:
        return {"pairs": torch.zeros(count, count), "odd": torch.zeros(count + 1)}

    assert layouts_of(run, ["pairs", "odd"]) == {"pairs": None, "odd": None}


def cell(op: str, directions: int, inputs: int, hidden: int, suffix: str = "") -> Arrays:
    gates = GATES[op]
    shapes = {
        "w": (directions, gates * hidden, inputs),
        "r": (directions, gates * hidden, hidden),
        "b": (directions, 2 * gates * hidden),
    }
    return {
        f"{name}{suffix}": (
            RNG.normal(size=shape) / np.sqrt(shape[-1] * (3 if name == "b" else 1))
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def dims(arrays: Arrays) -> str:
    return ", ".join(
        f"float[{', '.join(map(str, array.shape))}] {name}" for name, array in arrays.items()
    )


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_the_last_state_of_a_recurrent_layer(opened: Opener, op: str, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    weights = cell(op, count, 4, 3) | {"v": RNG.normal(size=(3 * count, 4)).astype(np.float32)}
    text = HEAD + (
        f"(float[N, 5, 4] x) => (float[N, 4] y) <{dims(weights)}, int64[2] s = {{0, {3 * count}}}>"
        f" {{ t = Transpose<perm = [1, 0, 2]>(x) q, h = {op}<hidden_size = 3, direction ="
        f' "{direction}">(t, w, r, b) p = Transpose<perm = [1, 0, 2]>(h) f = Reshape(p, s)'
        " y = MatMul(f, v) }"
    )
    check_margins(opened, text, weights, RNG.normal(size=(8, 5, 4)).astype(np.float32))


def test_sequences_that_are_too_long_are_refused(opened: Opener) -> None:
    weights = cell("RNN", 1, 4, 3)
    text = HEAD + (
        f"(float[N, 129, 4] x) => (float[N, 3] y) <{dims(weights)}, int64[1] zero = {{0}}>"
        " { t = Transpose<perm = [1, 0, 2]>(x) q, h = RNN<hidden_size = 3>(t, w, r, b)"
        " y = Squeeze(h, zero) }"
    )
    x = RNG.normal(size=(4, 129, 4)).astype(np.float32)
    refused = open_bounds(*opened(text, weights, {"x": x}))
    assert isinstance(refused, Refusal)
    assert "it has 129 steps in time, more than 128" in refused.reason


def test_long_sequences_are_bounded_without_narrowing(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = cell("GRU", 1, 4, 3) | {"v": RNG.normal(size=(3, 4)).astype(np.float32)}
    text = HEAD + (
        f"(float[N, 12, 4] x) => (float[N, 4] y) <{dims(weights)}, int64[1] zero = {{0}}>"
        " { t = Transpose<perm = [1, 0, 2]>(x) q, h = GRU<hidden_size = 3>(t, w, r, b)"
        " f = Squeeze(h, zero) y = MatMul(f, v) }"
    )
    x = RNG.normal(size=(8, 12, 4)).astype(np.float32)
    network = open_bounds(*opened(text, weights, {"x": x}, tolerance=0.004))
    assert isinstance(network, BoundedNetwork)
    assert network.plan.num_in_time > bound_batch.MOST_NARROWED
    plain = certify(network, effort=0.0, branching=None).margin
    np.testing.assert_array_equal(certify(network).margin, plain)
    monkeypatch.setattr(bound_batch, "MOST_NARROWED", 10_000)
    assert (certify(network, effort=1e6).margin >= plain).all()


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("size", [1.0, 6.0])
def test_float32_of_recurrent_layers_is_within_what_is_charged(
    opened: Opener, op: str, size: float
) -> None:
    """A box of size zero holds rounding alone: onnxruntime comes to half of it at most."""
    weights = {name: size * array for name, array in cell(op, 1, 8, 16).items()}
    weights["v"] = np.eye(16, dtype=np.float32)
    text = HEAD + (
        f"(float[N, 6, 8] x) => (float[N, 16] y) <{dims(weights)}, int64[1] zero = {{0}}>"
        f" {{ t = Transpose<perm = [1, 0, 2]>(x) q, h = {op}<hidden_size = 16>(t, w, r, b)"
        " f = Squeeze(h, zero) y = MatMul(f, v) }"
    )
    x = (size * RNG.normal(size=(64, 6, 8))).astype(np.float32)
    runtime, placement = opened(text, weights, {"x": x})
    network = open_bounds(runtime, placement)
    assert isinstance(network, BoundedNetwork)
    point = network.weights(0.0)
    state = propagate(network.plan, network.inputs, network.constants, point, effort=0.0)
    held = state.interval("y")
    assert network.twin is not None
    nominal = {name: box.lo for name, box in point.items()}
    exact = network.twin(network.inputs, nominal, outputs=["y"])["y"].detach()
    found = torch.from_numpy(runtime.plain.run(placement.nominal(), {"x": x})).double()
    assert bool(((held.lo <= exact) & (exact <= held.hi)).all())
    # A state at the end of its range has an interval of one side, half as wide.
    assert float(((found - exact).abs() / held.radius).max()) < 0.5


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_layers_on_top_of_each_other_with_first_states_of_zero(opened: Opener, op: str) -> None:
    weights = cell(op, 1, 4, 3) | cell(op, 1, 3, 3, "2")
    weights["v"] = RNG.normal(size=(3, 4)).astype(np.float32)
    states, memory = ("h, h", "h") if op == "LSTM" else ("h", "")
    reset = "" if op == "LSTM" else ", linear_before_reset = 1"
    text = HEAD + (
        f"(float[N, 4, 4] x) => (float[N, 4] y) <{dims(weights)}, int64[1] one = {{1}}, int64[1]"
        " three = {3}, int64 last = {-1}>"
        " { t = Transpose<perm = [1, 0, 2]>(x) z = Shape(t) n = Gather(z, one) d = Concat<axis = 0>"
        "(one, n, three) h = ConstantOfShape(d)"
        f" a = {op}<hidden_size = 3{reset}>(t, w, r, b, , {states}) c = Squeeze(a, one)"
        f" e = {op}<hidden_size = 3{reset}>(c, w2, r2, b2, , {states}) f = Squeeze(e, one)"
        " g = Gather<axis = 0>(f, last) y = MatMul(g, v) }"
    )
    assert memory in text
    check_margins(opened, text, weights, RNG.normal(size=(8, 4, 4)).astype(np.float32))


def test_peepholes_and_memories(opened: Opener) -> None:
    weights = cell("LSTM", 1, 4, 3) | {"v": RNG.normal(size=(3, 4)).astype(np.float32)}
    peep = RNG.normal(size=(1, 9)).astype(np.float32)
    text = HEAD + (
        f"(float[N, 3, 4] x) => (float[N, 4] y) <{dims(weights)}, float[1, 9] p, int64[1] zero ="
        " {0}> { t = Transpose<perm = [1, 0, 2]>(x)"
        " q, h, c = LSTM<hidden_size = 3>(t, w, r, b, , , , p) f = Squeeze(c, zero)"
        " y = MatMul(f, v) }"
    )
    check_margins(
        opened, text, {**weights, "p": peep}, RNG.normal(size=(8, 3, 4)).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("attributes", "inputs", "reason"),
    [
        (", clip = 0.5", "", "its cell has limits or other activations than the usual ones"),
        ("", ", l", "its sequences have lengths of their own"),
        ("", ", , k", "its first state is not zero"),
    ],
)
def test_other_cells_are_refused(opened: Opener, attributes: str, inputs: str, reason: str) -> None:
    weights = cell("GRU", 1, 4, 3) | {"v": RNG.normal(size=(3, 4)).astype(np.float32)}
    text = HEAD + (
        f"(float[N, 3, 4] x) => (float[N, 4] y) <{dims(weights)}, int64[1] zero = {{0}},"
        " int32[1] few = {2}, int64[1] one = {1}>"
        " { t = Transpose<perm = [1, 0, 2]>(x) m = Gather<axis = 0>(t, zero) j = Slice(m, zero,"
        " k3, two) k = Identity(j) z = Shape(t) n = Gather(z, one) l = Expand(few, n)"
        f" q, h = GRU<hidden_size = 3{attributes}>(t, w, r, b{inputs}) f = Squeeze(h, zero)"
        " y = MatMul(f, v) }"
    ).replace("int64[1] zero", "int64[1] k3 = {3}, int64[1] two = {2}, int64[1] zero")
    refused = open_bounds(
        *opened(text, weights, {"x": RNG.normal(size=(4, 3, 4)).astype(np.float32)})
    )
    assert isinstance(refused, Refusal)
    assert reason in refused.reason


ATTENTION = """{
    t = Transpose<perm = [1, 0, 2]>(x)
    q0 = MatMul(t, wq) q1 = Add(q0, bq) k0 = MatMul(t, wk) u0 = MatMul(t, wv)
    q2 = Reshape(q1, heads) k2 = Reshape(k0, heads) u2 = Reshape(u0, heads)
    q = Transpose<perm = [1, 0, 2]>(q2) k = Transpose<perm = [1, 2, 0]>(k2)
    u = Transpose<perm = [1, 0, 2]>(u2)
    s = MatMul(q, k) c = Mul(s, scale) m = Add(c, mask) a = Softmax(m) o = MatMul(a, u)
    o1 = Transpose<perm = [1, 0, 2]>(o) o2 = Reshape(o1, joined) o3 = MatMul(o2, wo)
    n = LayerNormalization(o3, g, h) f = ReduceMean<axes = [0], keepdims = 0>(n) y = MatMul(f, v)
}"""


def test_attention_with_time_first_and_heads_among_the_samples(opened: Opener) -> None:
    weights = {
        name: (RNG.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for name, shape in {
            "wq": (6, 6),
            "wk": (6, 6),
            "wv": (6, 6),
            "wo": (6, 6),
            "v": (6, 4),
        }.items()
    }
    weights |= {
        "bq": RNG.normal(size=6).astype(np.float32),
        "scale": np.float32(0.5),
        "mask": np.where(np.tri(5), 0.0, -1e9).astype(np.float32)[None],
        "g": np.ones(6, np.float32),
        "h": np.zeros(6, np.float32),
        # Two heads of three: 5 positions, heads among the samples.
        "heads": np.array([5, -1, 3]),
        "joined": np.array([5, -1, 6]),
    }
    stated = ", ".join(
        f"{'int64' if array.dtype.kind == 'i' else 'float'}"
        f"{list(array.shape) if array.ndim else ''} {name}"
        for name, array in weights.items()
    )
    text = (
        HEAD.replace("14", "17") + f"(float[N, 5, 6] x) => (float[N, 4] y) <{stated}> {ATTENTION}"
    )
    check_margins(opened, text, weights, RNG.normal(size=(8, 5, 6)).astype(np.float32))


def test_windows_among_the_samples_and_positions_of_their_own(opened: Opener) -> None:
    weights = {
        "w": (RNG.normal(size=(4, 8)) / 2).astype(np.float32),
        "b": RNG.normal(size=8).astype(np.float32),
        "p": RNG.normal(size=(3, 1, 8)).astype(np.float32),
        "v": (RNG.normal(size=(8, 4)) / 3).astype(np.float32),
    }
    text = HEAD + (
        f"(float[N, 3, 4] x) => (float[N, 4] y) <{dims(weights)}, int64[2] flat = {{-1, 4}},"
        " int64[3] back = {-1, 3, 8}> { r = Reshape(x, flat) h = Gemm(r, w, b) a = Relu(h)"
        " c = Reshape(a, back) t = Transpose<perm = [1, 0, 2]>(c) s = Add(t, p) e = Tanh(s)"
        " f = ReduceMean<axes = [0], keepdims = 0>(e) y = MatMul(f, v) }"
    )
    check_margins(opened, text, weights, RNG.normal(size=(8, 3, 4)).astype(np.float32))


@pytest.mark.parametrize(
    "loop",
    [
        "l = Loop (m, , s0) <body = b (int64 i, bool c, float[N, 5] h) => (bool d, float[N, 5] n)"
        " { d = Identity(c) a = MatMul(h, r) n = Tanh(a) }>",
        "l, all = Scan (s0, t) <num_scan_inputs = 1, body = b (float[N, 5] h, float[N, 4] v) =>"
        " (float[N, 5] n, float[N, 5] k) { a = MatMul(h, r) e = MatMul(v, w) f = Add(a, e)"
        " n = Tanh(f) k = Identity(n) }>",
        "l = Scan (s0, rs) <num_scan_inputs = 1, body = b (float[N, 5] h, float[5, 5] g) =>"
        " (float[N, 5] n) { a = MatMul(h, g) n = Tanh(a) }>",
    ],
)
def test_loops_whose_number_of_passes_is_known(opened: Opener, loop: str) -> None:
    shapes = {"w": (4, 5), "r": (5, 5), "rs": (3, 5, 5), "v": (5, 4)}
    weights = {
        name: (RNG.normal(size=shape) / 2).astype(np.float32) for name, shape in shapes.items()
    }
    weights = {
        name: array for name, array in weights.items() if name in ("w", "v") or f"{name})" in loop
    }
    text = HEAD + (
        f"(float[N, 3, 4] x) => (float[N, 4] y) <{dims(weights)}, int64 m = {{3}}, int64[1] one ="
        " {1}> { t = Transpose<perm = [1, 0, 2]>(x) x0 = ReduceMean<axes = [1], keepdims = 0>(x)"
        f" s0 = MatMul(x0, w) {loop} y = MatMul(l, v) }}"
    )
    check_margins(opened, text, weights, RNG.normal(size=(8, 3, 4)).astype(np.float32))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "t = Transpose<perm = [1, 0]>(h) a = Softmax(t) s = Transpose<perm = [1, 0]>(a)",
            "last axis",
        ),
        (
            "t = Unsqueeze(h, zero) a = Softmax<axis = 1>(t) s = Squeeze(a, zero)",
            "it normalises over samples",
        ),
        (
            "t = Unsqueeze(h, zero) a = ReduceMax<axes = [2]>(t) c = Squeeze(a, zero)"
            " s = Add(h, c)",
            "its samples do not lie along the first axis",
        ),
    ],
)
def test_what_has_no_rule_with_samples_elsewhere_is_refused(
    opened: Opener, body: str, reason: str
) -> None:
    weights = {"w": RNG.normal(size=(4, 4)).astype(np.float32)}
    text = HEAD + (
        "(float[N, 4] x) => (float[N, 4] y) <float[4, 4] w, int64[1] zero = {0}>"
        f" {{ h = MatMul(x, w) {body} y = Tanh(s) }}"
    )
    runtime_placement = opened(text, weights, {"x": RNG.normal(size=(1, 4)).astype(np.float32)})
    refused = open_bounds(*runtime_placement)
    assert isinstance(refused, Refusal), refused
    assert reason in refused.reason


def test_networks_with_samples_in_front_are_taken_as_they_are(opened: Opener) -> None:
    weights = {"w": RNG.normal(size=(4, 4)).astype(np.float32)}
    text = (
        HEAD + "(float[N, 4] x) => (float[N, 4] y) <float[4, 4] w> { h = MatMul(x, w) y = Tanh(h) }"
    )
    network = open_bounds(*opened(text, weights, {"x": RNG.normal(size=(4, 4)).astype(np.float32)}))
    assert isinstance(network, BoundedNetwork)
    assert [step.node.op for step in network.plan.steps] == ["MatMul", "Tanh"]
