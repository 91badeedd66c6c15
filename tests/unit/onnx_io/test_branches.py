"""Which conditions on sizes are resolved when a file is loaded, and which are left to the runtime."""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

Load = Callable[..., Network]

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
BRANCHES = """y = If (c) <
    then_branch = a () => (float[k, 3] t) { t = MatMul(p, W1) },
    else_branch = b () => (float[k, 3] e) { e = MatMul(p, W2) }> }"""
WEIGHTS = {"W1": np.ones((4, 3), np.float32), "W2": np.full((4, 3), 2, np.float32)}
CONSTANTS = ", ".join(f"int64 i{value} = {{{value}}}" for value in range(9))


def network_of(load: Load, condition: str, inputs: str = "float[n, 4, h, w] x") -> Network:
    """Load a network that takes W1 or W2 by a condition `c`; H, W, N are sizes of its input."""
    return load(
        HEAD
        + f"""g ({inputs}) => (float[k, 3] y) <{CONSTANTS}, int64[1] axis = {{0}}> {{
        s = Shape(x) N = Gather(s, i0) H = Gather(s, i2) W = Gather(s, i3) p = ReduceMean <axes = [2, 3], keepdims = 0> (x)
        {condition} {BRANCHES}""",  # noqa: E501
        **WEIGHTS,
    )


def weights(network: Network) -> list[str]:
    return [layer.initializer for layer in scan_layers(network).layers]


@pytest.mark.parametrize(
    "condition",
    [
        "c = Equal(H, W)",
        "r = Mod(H, i4) c = Equal(r, i0)",
        "c = Greater(H, i0)",  # an axis may be empty
        "c = Equal(H, i1)",
        "c = Less(H, W)",
        "t2 = Mul(H, W) c = Equal(t2, i6)",
        "q = Div(H, i2) d = Mul(q, i2) c = Equal(d, H)",
        "m = Max(H, W) c = Equal(m, H)",
        "h0 = Size(x) c = Equal(h0, i0)",
        "c = Equal(N, i1)",
        # 64 bits may overflow.
        "a1 = Mul(H, W) a2 = Mul(a1, H) a3 = Mul(a2, W) c = GreaterOrEqual(a3, i0)",
        "f = Cast <to = 1> (H) g2 = Cast <to = 7> (f) c = Equal(g2, H)",  # 2**24 + 1 is no float32
        "c1 = Equal(H, W) c2 = Equal(H, i3) c = Or(c1, c2)",
    ],
)
def test_a_condition_that_sizes_decide_stays(load: Load, condition: str) -> None:
    network = network_of(load, condition)
    assert "If" in [node.op_type for node in network.model.graph.node]
    assert sorted(weights(network)) == ["W1", "W2"]


@pytest.mark.parametrize(
    ("condition", "taken"),
    [
        ("c = Equal(H, H)", "W1"),
        ("d = Neg(x) s2 = Shape(d) H2 = Gather(s2, i2) c = Equal(H, H2)", "W1"),
        ("c = GreaterOrEqual(H, i0)", "W1"),
        ("c = Less(H, i0)", "W2"),
        ("d = Mul(H, i2) r = Mod(d, i2) c = Equal(r, i0)", "W1"),
        (
            "d = Mul(H, i2) d1 = Add(d, i1) d2 = Mul(W, i2) c = Equal(d1, d2)",
            "W2",
        ),  # odd is not even
        (
            (
                "r = Mod(H, i4) m = Sub(i4, r) q = Mod(m, i4) d = Add(H, q) e2 = Mod(d, i4) c ="
                " Equal(e2, i0)"
            ),
            "W1",
        ),  # padded to a multiple
        ("q = Div(H, i4) m = Mul(q, i4) r = Mod(H, i4) d = Add(m, r) c = Equal(d, H)", "W1"),
        ("r = Mod(H, i4) c = Less(r, i4)", "W1"),
        ("rank = Size(s) c = Equal(rank, i4)", "W1"),
        ("s2 = Shape(s) rank = Squeeze(s2) c = Equal(rank, i3)", "W2"),
        ("C = Gather(s, i1) c = Equal(C, i4)", "W1"),
        ("m = Max(H, i0) c = Equal(m, H)", "W1"),
        ("c1 = Equal(H, W) c2 = Not(c1) c = Or(c1, c2)", "W1"),
        ("c1 = Equal(H, W) c2 = Equal(W, H) c = Xor(c1, c2)", "W2"),
        (
            "c1 = Less(H, W) c2 = Greater(H, W) c = And(c1, c2)",
            None,
        ),  # true, and open here: no interval shows it
        ("c1 = Equal(H, i1) v = Where(c1, i2, i3) c = Greater(v, i1)", "W1"),
        (
            (
                "t2 = Concat <axis = 0> (s, s) m = ReduceMin <keepdims = 0> (t2) c ="
                " GreaterOrEqual(m, i0)"
            ),
            "W1",
        ),
        ("i = Cast <to = 6> (H) c3 = Cast <to = 6> (H) c = Equal(i, c3)", "W1"),
        ("z2 = Mul(H, i0) c = Cast <to = 9> (z2)", "W2"),
    ],
)
def test_a_condition_that_is_the_same_for_all_sizes_is_resolved(
    load: Load, condition: str, taken: str | None
) -> None:
    network = network_of(load, condition)
    assert sorted(weights(network)) == ([taken] if taken else ["W1", "W2"])


def test_sizes_of_one_name_are_one_size_and_data_are_checked_for_that(load: Load) -> None:
    condition = "s2 = Shape(z) M = Gather(s2, i0) c = Equal(M, N)"
    network = network_of(load, condition, "float[n, 4, h, w] x, float[n, 2] z")
    assert weights(network) == ["W1"]
    assert network.shared_sizes == ("n",)
    assert any("one size" in note for note in network.notes)


def test_a_name_is_not_relied_on_where_nothing_depends_on_it(load: Load) -> None:
    network = network_of(load, "c = Equal(H, H)", "float[n, 4, h, w] x, float[n, 2] z")
    assert weights(network) == ["W1"]
    assert network.shared_sizes == ()


def test_axes_without_name_are_different_sizes(load: Load) -> None:
    network = network_of(load, "c = Equal(H, W)", "float[?, 4, ?, ?] x")
    assert sorted(weights(network)) == ["W1", "W2"]


def test_what_a_body_states_of_its_outputs_is_no_proof(load: Load) -> None:
    network = load(
        HEAD
        + f"""g (float[n, 4] p, bool b) => (float[k, 3] y) <{CONSTANTS}> {{
        q = If (b) <then_branch = a () => (float[1, 4] t) {{ t = Neg(p) }}, else_branch = b () => (float[1, 4] e) {{ e = Identity(p) }}>
        s = Shape(q) N = Gather(s, i0) c = Equal(N, i1) {BRANCHES.replace("a ()", "a2 ()").replace("b ()", "b2 ()")}""",  # noqa: E501
        **WEIGHTS,
    )
    assert sorted(weights(network)) == ["W1", "W2"]


def test_branches_inside_branches_are_resolved(load: Load) -> None:
    network = load(
        HEAD
        + f"""g (float[n, 4] p) => (float[k, 3] y) <{CONSTANTS}> {{
        s = Shape(p) N = Gather(s, i0) c = GreaterOrEqual(N, i0)
        y = If (c) <
          then_branch = a () => (float[k, 3] t) {{
            C = Gather(s, i1) d = Equal(C, i3)
            t = If (d) <then_branch = a2 () => (float[k, 3] t2) {{ t2 = MatMul(p, W1) }},
                        else_branch = b2 () => (float[k, 3] e2) {{ e2 = MatMul(p, W2) }}> }},
          else_branch = b () => (float[k, 3] e) {{ e = MatMul(p, W1) }}> }}""",
        **WEIGHTS,
    )
    assert weights(network) == ["W2"]


def test_a_long_chain_of_conditions_costs_no_more_than_it_may(load: Load) -> None:
    steps = " ".join(f"a{index + 1} = Mul(a{index}, a{index})" for index in range(3000))
    network = network_of(load, f"a0 = Add(H, W) {steps} r = Mod(a3000, i7) c = Equal(r, i3)")
    assert sorted(weights(network)) == ["W1", "W2"]
