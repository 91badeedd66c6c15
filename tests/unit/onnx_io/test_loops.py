"""Loops that a file says to run too often, and nodes whose work its shapes do not bound."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cimrobust.errors import ModelNotCoveredError
from cimrobust.onnx_io.loops import open_ended_nodes
from cimrobust.onnx_io.network import Network

Load = Callable[..., Network]

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
BODY = (
    "body = b (int64 i, bool c, float[N, 4] s) => (bool c2, float[N, 4] s2) {{ s2 = Neg(s)"
    " {going} }}"
)
ONWARD = "c2 = Identity(c)"


def loop(
    load: Load, inputs: str, going: str = ONWARD, constants: str = "int64 k = {4000000000}"
) -> Network:
    return load(
        HEAD + f"g (float[N, 4] x) => (float[N, 4] y) <{constants}> {{ [l] y = Loop({inputs}, x)"
        f" <{BODY.format(going=going)}> }}"
    )


@pytest.mark.parametrize(
    ("inputs", "going", "constants", "says"),
    [
        ('k, ""', ONWARD, "int64 k = {4611686018427387904}", "4611686018427387904 times"),
        ('k, ""', ONWARD, "int64 k = {1000000000}", "1000000000 times"),
        ('"", ""', ONWARD, "bool t = {1}", "without end"),
        ('"", t', ONWARD, "bool t = {1}", "without end"),
        ('"", t', "d = Identity(t) c2 = Identity(d)", "bool t = {1}", "without end"),
        ('"", t', "d = Identity(c) c2 = Identity(d)", "bool t = {1}", "without end"),
        ("k, t", ONWARD, "int64[1] k = {20000000}, bool t = {1}", "20000000 times"),
    ],
)
def test_a_loop_that_runs_too_often_whatever_the_input_is_refused(
    load: Load, inputs: str, going: str, constants: str, says: str
) -> None:
    with pytest.raises(ModelNotCoveredError, match=rf"node 'l' \(Loop\) runs its body {says}"):
        loop(load, inputs, going, constants)


@pytest.mark.parametrize(
    ("inputs", "going", "constants"),
    [
        ('k, ""', ONWARD, "int64 k = {3}"),
        ('k, ""', ONWARD, "int64 k = {-1}"),
        (
            'k, ""',
            "q = ReduceSum <keepdims = 0> (s2) c2 = Cast <to = 9> (q)",
            "int64 k = {9223372036854775807}",
        ),  # may end at once
        ("k, f", ONWARD, "int64 k = {9223372036854775807}, bool f = {0}"),
        ('k, ""', "c2 = Identity(f)", "int64 k = {9223372036854775807}, bool f = {0}"),
    ],
)
def test_a_loop_that_may_end_is_not_refused_unseen(
    load: Load, inputs: str, going: str, constants: str
) -> None:
    network = loop(load, inputs, going, constants)
    assert open_ended_nodes(network.model) == ["node 'l' (Loop)"]


def test_loops_inside_loops_multiply(load: Load) -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) <int64 k = {100000}> {
    y = Loop(k, "", x) <body = b (int64 i, bool c, float[N, 4] s) => (bool c2, float[N, 4] s2) {
      [inner] s2 = Loop(k, "", s) <body = b2 (int64 i2, bool d, float[N, 4] t) => (bool d2, float[N, 4] t2) { t2 = Neg(t) d2 = Identity(d) }>
      c2 = Identity(c) }> }"""  # noqa: E501
    with pytest.raises(
        ModelNotCoveredError, match=r"node 'inner' \(Loop\) runs its body 10000000000 times"
    ):
        load(HEAD + text)


@pytest.mark.parametrize(
    ("text", "open_ended"),
    [
        ("g (float[N, 4] x) => (y) <int64[2] s = {1, 4}> { y = Expand(x, s) }", False),
        ("g (float[N, 4] x) => (y) { s = Shape(x) y = Expand(x, s) }", False),
        ("g (float[N, 4] x, int64[2] s) => (y) { y = Expand(x, s) }", True),
        ("g (float[N, 4] x, int64[2] s) => (y) { y = Tile(x, s) }", True),
        (
            (
                "g (float[N, 4] x, int64 n) => (y) <int64 a = {0}, int64 d = {1}> { r = Range(a, n,"
                " d) f = Cast <to = 1> (r) y = ReduceSum(f) }"
            ),
            True,
        ),
        ("g (float[N, 4] x) => (y) <int64[4] p = {0, 0, 0, 3}> { y = Pad(x, p) }", False),
        ("g (float[N, 4] x, int64[4] p) => (y) { y = Pad(x, p) }", True),
        (
            (
                "g (float[N, 4] x) => (y) <int64[2] s = {30000, 1000}> { c = ConstantOfShape(s) m ="
                " ReduceMax(c) y = Add(x, m) }"
            ),
            True,
        ),
        ("g (float[N, 4] x) => (y) { y = Relu(x) }", False),
    ],
)
def test_nodes_whose_size_a_number_decides_are_named(
    load: Load, text: str, open_ended: bool
) -> None:
    assert bool(open_ended_nodes(load(HEAD + text).model)) == open_ended


def test_constants_that_take_too_much_work_are_refused_by_name(load: Load) -> None:
    text = """g (float[N, 16] x) => (float[N, 16] y) <int64[8] s = {16, 16, 16, 16, 2, 2, 1, 1}, float[1] one = {1}> {
      a = Expand(one, s) b2 = Expand(one, s)
      [heavy] w = Einsum <equation = "abcdefgh,ABCDEFGH->aA"> (a, b2)
      y = MatMul(x, w) }"""  # noqa: E501
    with pytest.raises(
        ModelNotCoveredError, match=r"multiplications, got more \(node 'heavy', Einsum\)"
    ):
        load(HEAD + text)


def test_constants_that_take_too_much_memory_are_refused_by_name(load: Load) -> None:
    steps = " ".join(f"e{index + 1} = Neg(e{index})" for index in range(12))
    text = f"""g (float[N, 4096] x) => (float[N, 4096] y) <int64[2] s = {{4096, 4096}}, float[1] one = {{1}}> {{
      e0 = Expand(one, s) {steps} y = MatMul(x, e12) }}"""  # noqa: E501
    with pytest.raises(ModelNotCoveredError, match=r"268435456 bytes.*got more \(node 'e4', Neg\)"):
        load(HEAD + text)
