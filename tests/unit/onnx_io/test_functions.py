"""Functions that a file brings along: constants of theirs are one tensor each, and built-in
operators win over them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cimrobust.engine.original_file import run_original
from cimrobust.errors import InputRefusedError, ModelNotCoveredError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

Load = Callable[..., Network]
Write = Callable[..., Path]

MAIN = '<ir_version: 8, opset_import: ["": 18, "local": 1]> g (float[N, 2] x) => (float[N, 2] y)'
CALLED = """ <domain: "local", opset_import: ["": 18]> Lin (a) => (o) {
  Wc = Constant <value = float[2, 2] {1, 2, 3, 4}> () t = MatMul(a, Wc) o = Tanh(t) }"""


def layers(network: Network) -> dict[str, int]:
    """Return how many nodes read each stored weight."""
    return {layer.initializer: len(layer.uses) for layer in scan_layers(network).layers}


def test_a_constant_of_a_function_is_one_array_however_often_it_is_called(load: Load) -> None:
    network = load(MAIN + "{ a = local.Lin(x) y = local.Lin(a) }" + CALLED)
    assert layers(network) == {"Wc": 2}
    assert network.num_parameters == 4
    assert any("one array each" in note and "'Wc'" in note for note in network.notes)


def test_one_call_gives_no_note(load: Load) -> None:
    network = load(MAIN + "{ y = local.Lin(x) }" + CALLED)
    assert layers(network) == {"Wc": 1}
    assert not any("one array each" in note for note in network.notes)


def test_functions_inside_functions_share_too(load: Load) -> None:
    outer = """ <domain: "local", opset_import: ["": 18, "local": 1]> Two (a) => (o) { b = local.Lin(a) o = local.Lin(b) }"""  # noqa: E501
    network = load(MAIN + "{ a = local.Two(x) y = local.Two(a) }" + CALLED + outer)
    assert layers(network) == {"Wc": 4}


def test_equal_constants_of_different_functions_are_different_arrays(load: Load) -> None:
    network = load(
        MAIN
        + "{ a = local.Lin(x) y = local.Other(a) }"
        + CALLED
        + CALLED.replace("Lin (a)", "Other (a)")
    )
    assert sorted(layers(network).values()) == [1, 1]


def test_an_equal_initializer_is_another_array(load: Load) -> None:
    network = load(
        MAIN + "<float[2, 2] V = {1, 2, 3, 4}> { a = local.Lin(x) y = MatMul(a, V) }" + CALLED
    )
    assert layers(network) == {"Wc": 1, "V": 1}


def test_the_name_of_a_constant_gives_way_to_one_of_the_file(load: Load) -> None:
    network = load(
        MAIN
        + "<float[2, 2] Wc = {4, 3, 2, 1}> { a = local.Lin(x) b = local.Lin(a) y = MatMul(b, Wc) }"
        + CALLED
    )
    found = layers(network)
    assert found.pop("Wc") == 1
    assert list(found.values()) == [2]


def test_a_function_of_another_operator_set_is_read_where_its_operators_are_the_same(
    load: Load,
) -> None:
    network = load(
        MAIN + "{ a = local.Lin(x) y = local.Lin(a) }" + CALLED.replace('["": 18]', '["": 13]')
    )
    assert layers(network) == {"Wc": 2}


@pytest.mark.parametrize(("main", "own"), [(18, 11), (11, 18)])
def test_a_function_that_runtimes_read_differently_is_refused_by_name(
    load: Load, main: int, own: int
) -> None:
    called = (
        f""" <domain: "local", opset_import: ["": {own}]> Soft (a) => (o) {{ o = Softmax(a) }}"""
    )
    with pytest.raises(
        ModelNotCoveredError, match=rf"'local::Soft'.*set {own} and the model for {main}.*Softmax"
    ):
        load(MAIN.replace('"": 18', f'"": {main}') + "{ y = local.Soft(x) }" + called)


def test_short_forms_and_views_of_constants_share(load: Load) -> None:
    called = """ <domain: "local", opset_import: ["": 18]> Lin (a) => (o) {
      f = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> () s = Constant <value_ints = [2, 2]> () w = Reshape(f, s) o = MatMul(a, w) }"""  # noqa: E501
    network = load(MAIN + "{ a = local.Lin(x) y = local.Lin(a) }" + called)
    assert layers(network) == {"f": 2}


def test_weights_that_functions_compute_are_one_array(load: Load) -> None:
    called = """ <domain: "local", opset_import: ["": 18]> Lin (a) => (o) {
      v = Constant <value = float[2, 2] {1, 2, 3, 4}> () g = Constant <value = float[2] {2, 3}> () w = Mul(v, g) o = MatMul(a, w) }"""  # noqa: E501
    network = load(MAIN + "{ a = local.Lin(x) b = local.Lin(a) y = local.Lin(b) }" + called)
    assert list(layers(network).values()) == [3]


def test_constants_that_attributes_give_stay_apart(load: Load) -> None:
    called = """ <domain: "local", opset_import: ["": 18]> Lin <w> (a) => (o) { W = Constant <value: tensor = @w> () o = MatMul(a, W) }"""  # noqa: E501
    one, two = "float[2, 2] {1, 2, 3, 4}", "float[2, 2] {4, 3, 2, 1}"
    network = load(
        MAIN + f"{{ a = local.Lin <w = {one}> (x) b = local.Lin <w = {two}> (a) y = local.Lin <w ="
        f" {one}> (b) }}" + called
    )
    assert sorted(layers(network).values()) == [1, 1, 1]


def test_other_attributes_do_not_keep_constants_apart(load: Load) -> None:
    called = """ <domain: "local", opset_import: ["": 18]> Lin <alpha> (a) => (o) {
      Wc = Constant <value = float[2, 2] {1, 2, 3, 4}> () t = MatMul(a, Wc) o = LeakyRelu <alpha: float = @alpha> (t) }"""  # noqa: E501
    calls = (
        "{ a = local.Lin <alpha = 0.1> (x) b = local.Lin <alpha = 0.2> (a) y = local.Lin <alpha ="
        " 0.3> (b) }"
    )
    assert layers(load(MAIN + calls + called)) == {"Wc": 3}


def test_constants_in_branches_of_functions_share(load: Load) -> None:
    called = """ <domain: "local", opset_import: ["": 18]> Lin (a) => (o) {
      m = ReduceSum <keepdims = 0> (a) z = Constant <value_float = 0.0> () c = Greater(m, z)
      o = If (c) <then_branch = p () => (float[N, 2] t) { w = Constant <value = float[2, 2] {1, 2, 3, 4}> () t = MatMul(a, w) },
                  else_branch = q () => (float[N, 2] e) { e = Neg(a) }> }"""  # noqa: E501
    network = load(MAIN + "{ a = local.Lin(x) y = local.Lin(a) }" + called)
    assert list(layers(network).values()) == [2]


def test_a_file_cannot_claim_the_mark_of_a_constant(load: Load, write: Write) -> None:
    path = write(
        MAIN + "<float[2, 2] V = {4, 3, 2, 1}> { a = local.Lin(x) y = MatMul(a, V) }" + CALLED
    )
    model = onnx.load(path)
    model.graph.initializer[0].doc_string = "cimrobust//constant//0"
    onnx.save(model, path)
    network = load_network(path)
    assert layers(network) == {"Wc": 1, "V": 1}
    np.testing.assert_array_equal(network.initializers["V"], [[4, 3], [2, 1]])


X = np.asarray([[1, -2], [-3, 4]], np.float32)


@pytest.mark.parametrize(
    ("domain", "name", "counts"),
    [
        ("", "Relu", "operator"),
        ("ai.onnx", "Relu", "operator"),
        ("", "Softplus", "operator"),
        ("com.microsoft", "Gelu", "operator"),
        ("com.microsoft", "Foo", "function"),
        ("my", "Relu", "function"),
    ],
)
def test_onnxruntime_decides_whether_a_function_counts(
    write: Write, domain: str, name: str, counts: str
) -> None:
    call = f"{domain}.{name}" if domain else name
    imports = '"": 18' + (f', "{domain}": 1' if domain not in ("", "ai.onnx") else "")
    path = write(
        f"<ir_version: 8, opset_import: [{imports}]> g (float[N, 2] x) => (float[N, 2] y) {{ h ="
        f" {call}(x) y = Identity(h) }} "
        f'<domain: "{domain}", opset_import: ["": 18]> {name} (a) => (o) {{ o = Neg(a) }}'
    )
    network = load_network(path)
    assert ("Neg" in network.operators) == (counts == "function")
    assert np.array_equal(run_original(network, {"x": X}), -X) == (counts == "function")
    assert any("operators of its own" in note for note in network.notes) == (counts == "operator")


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml"])
def test_a_function_that_no_runtime_calls_is_refused_by_name(write: Write, domain: str) -> None:
    call = f"{domain}.Foo" if domain else "Foo"
    imports = '"": 18' + (', "ai.onnx.ml": 3' if domain == "ai.onnx.ml" else "")
    path = write(
        f"<ir_version: 8, opset_import: [{imports}]> g (float[N, 2] x) => (float[N, 2] y) {{ y ="
        f" {call}(x) }} "
        f'<domain: "{domain}", opset_import: ["": 18]> Foo (a) => (o) {{ o = Neg(a) }}'
    )
    with pytest.raises(ModelNotCoveredError, match=r"Foo.*calls no functions"):
        load_network(path)


SCALED = """ <domain: "local", opset_import: ["": 18]> Leak {inner} (a) => (o) {{
  o = LeakyRelu <alpha: float = @slope> (a) }}
 <domain: "local", opset_import: ["": 18, "local": 1]> Outer {outer} (a) => (o) {{
  b = Abs(a) c = Neg(b) o = local.Leak <slope: float = @k> (c) }}"""


@pytest.mark.parametrize(
    ("inner", "outer", "called", "slope"),
    [
        ("<slope>", "<k: float = 0.5>", "", 0.5),
        ("<slope: float = 0.25>", "<k: float = 0.5>", "", 0.5),
        ("<slope: float = 0.25>", "<k>", "", 0.25),
        ("<slope: float = 0.25>", "<k>", "<k = 0.75>", 0.75),
        ("<slope>", "<k: float = 0.5>", "<k = 0.75>", 0.75),
    ],
)
def test_functions_hand_defaults_of_attributes_on(
    load: Load, inner: str, outer: str, called: str, slope: float
) -> None:
    network = load(
        MAIN + f"{{ y = local.Outer {called} (x) }}" + SCALED.format(inner=inner, outer=outer)
    )
    alpha = next(node for node in network.model.graph.node if node.op_type == "LeakyRelu")
    assert [attribute.f for attribute in alpha.attribute] == [slope]
    np.testing.assert_array_equal(run_original(network, {"x": X}), -np.float32(slope) * abs(X))


def test_a_weight_may_be_the_default_that_a_function_hands_on(load: Load, write: Write) -> None:
    path = write(
        MAIN
        + "{ y = local.Two(x) }"
        + """ <domain: "local", opset_import: ["": 18]> Lin <W> (a) => (o) {
          w = Constant <value: tensor = @W> () o = MatMul(a, w) }
         <domain: "local", opset_import: ["": 18, "local": 1]> Two <V> (a) => (o) {
          b = local.Lin <W: tensor = @V> (a) o = local.Lin <W: tensor = @V> (b) }"""
    )
    model = onnx.load(path)
    values = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32) * 3, "V")
    model.functions[1].attribute.remove("V")
    model.functions[1].attribute_proto.append(onnx.helper.make_attribute("V", values))
    onnx.save(model, path)
    network = load_network(path)
    assert layers(network) == {"V": 2}
    np.testing.assert_array_equal(run_original(network, {"x": X}), 9 * X)


def overloaded(write: Write, *, called: str) -> Path:
    """Write a model with two functions of one name, Neg and Abs, apart by their overload."""
    path = write(
        MAIN.replace("ir_version: 8", "ir_version: 10")
        + '{ y = local.F(x) } <domain: "local", opset_import: ["": 18]> F (a) => (o) { o = Neg(a) }'
    )
    model = onnx.load(path)
    other = model.functions.add()
    other.CopyFrom(model.functions[0])
    model.functions[0].overload, other.overload = "one", "two"
    other.node[0].op_type = "Abs"
    model.graph.node[0].overload = called
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("called", "operator"), [("one", "Neg"), ("two", "Abs")])
def test_overloads_are_told_apart(write: Write, called: str, operator: str) -> None:
    network = load_network(overloaded(write, called=called))
    assert list(network.operators) == [operator]
    np.testing.assert_array_equal(
        run_original(network, {"x": X}), -X if operator == "Neg" else abs(X)
    )


def test_an_overload_that_does_not_exist_is_refused(write: Write) -> None:
    with pytest.raises((InputRefusedError, ModelNotCoveredError), match="F"):
        load_network(overloaded(write, called="three"))


def test_a_function_defined_twice_is_refused(write: Write) -> None:
    path = write(MAIN + "{ y = local.Lin(x) }" + CALLED + CALLED)
    with pytest.raises(InputRefusedError, match="'local::Lin' is defined 2 times"):
        load_network(path)


@pytest.mark.parametrize("used", [True, False])
def test_functions_in_a_circle_are_refused_also_where_nobody_calls_them(
    write: Write, used: bool
) -> None:
    circle = """ <domain: "local", opset_import: ["": 18, "local": 1]> A (a) => (o) { o = local.B(a) }
     <domain: "local", opset_import: ["": 18, "local": 1]> B (a) => (o) { o = local.A(a) }"""  # noqa: E501
    path = write(MAIN + f"{{ y = local.{'A' if used else 'Lin'}(x) }}" + CALLED + circle)
    with pytest.raises(InputRefusedError, match="in a circle"):
        load_network(path)
