"""What is made from a file is compared with the file at sizes that no data at hand have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from cimrobust.engine.other_sizes import check_sizes
from cimrobust.errors import ModelNotCoveredError, SelfCheckError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import Network

Load = Callable[[str], Network]

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
WIDE = """g (float[n, 4, h, w] x) => (float[n, 3] y) <int64 i2 = {2}, int64 i3 = {3}, float[4, 3] W1 = {1,2,3,4,5,6,7,8,9,10,11,12}> {
  s = Shape(x) H = Gather(s, i2) W = Gather(s, i3) c = %s p = ReduceMean <axes = [2, 3], keepdims = 0> (x)
  y = If (c) <then_branch = a () => (float[n, 3] t) { t = MatMul(p, W1) },
              else_branch = b () => (float[n, 3] e) { m = MatMul(p, W1) e = Neg(m) }> }"""  # noqa: E501


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Write a model given as ONNX text and load it."""

    def load(text: str) -> Network:
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx.parser.parse_model(HEAD + text).SerializeToString())
        return load_network(path)

    return load


def content(text: str) -> bytes:
    return bytes(onnx.parser.parse_model(HEAD + text).SerializeToString())


def test_the_same_network_agrees_at_several_sizes_that_differ(load: Load) -> None:
    network = load(WIDE % "Equal(H, W)")
    checked = check_sizes(network, network.model.SerializeToString(), integer=False)
    assert checked.max_difference == 0
    assert len(checked.ran) >= 10
    shapes = [shapes["x"] for shapes in checked.ran]
    assert any(len({height, width}) == 2 for _, _, height, width in shapes)
    assert any(height == width for _, _, height, width in shapes)
    assert {shape[0] for shape in shapes} >= {1, 2, 3}


@pytest.mark.parametrize(
    "condition", ["Equal(H, W)", "Equal(H, i3)", "Less(H, W)", "Greater(H, i3)"]
)
@pytest.mark.parametrize("always", ["Equal(H, H)", "Less(H, H)"])
def test_a_network_that_takes_one_branch_only_is_found_out(
    load: Load, condition: str, always: str
) -> None:
    network = load(WIDE % condition)
    with pytest.raises(SelfCheckError, match="at all sizes, got others at x"):
        check_sizes(network, content(WIDE % always), integer=False)


def test_a_network_that_refuses_what_the_file_takes_is_found_out(load: Load) -> None:
    network = load("g (float[n, h] x) => (float[n, h] y) { y = Neg(x) }")
    with pytest.raises(SelfCheckError, match="got others at x"):
        check_sizes(
            network, content("g (float[n, 7] x) => (float[n, 7] y) { y = Neg(x) }"), integer=False
        )


def test_sizes_that_the_file_refuses_are_left_out(load: Load) -> None:
    network = load(
        "g (float[n, h] x) => (float[n, 2] y) <float[28, 2] W> { c = ConstantOfShape <value ="
        " float[1] {2}> (s) y = MatMul(x, c) }".replace("float[28, 2] W", "int64[2] s = {28, 2}")
    )
    checked = check_sizes(network, network.model.SerializeToString(), integer=False)
    assert all(shapes["x"][1] == 28 for shapes in checked.ran)
    assert checked.num_refused > 0
    assert f"{checked.num_refused} more were refused by the file itself" in checked.sentence


def test_a_file_that_runs_at_no_size_tried_is_refused(load: Load) -> None:
    network = load(
        "g (float[n, h] x) => (float[n, 2] y) <int64[2] s = {29, 2}> { c = ConstantOfShape <value ="
        " float[1] {2}> (s) y = MatMul(x, c) }"
    )
    with pytest.raises(ModelNotCoveredError, match="at one of the sizes"):
        check_sizes(network, network.model.SerializeToString(), integer=False)


def test_axes_of_one_name_have_one_size(load: Load) -> None:
    network = load("g (float[n, h] x, float[h, n] z) => (float[n, n] y) { y = MatMul(x, z) }")
    checked = check_sizes(network, network.model.SerializeToString(), integer=False)
    assert checked.num_refused == 0
    assert all(shapes["x"] == shapes["z"][::-1] for shapes in checked.ran)


def test_a_file_without_free_axes_is_run_once(load: Load) -> None:
    network = load("g (float[2, 3] x, int64[2] i) => (float[2, 3] y) { y = Gather(x, i) }")
    checked = check_sizes(network, network.model.SerializeToString(), integer=False)
    assert [dict(shapes) for shapes in checked.ran] == [{"x": (2, 3), "i": (2,)}]


def test_a_random_file_is_not_called_a_fault_of_this_tool(load: Load) -> None:
    text = "g (float[n, 3] x) => (float[n, 3] y) { r = RandomNormalLike(x) y = Add(x, r) }"
    network = load(text)
    with pytest.raises(ModelNotCoveredError, match="same output for the same input"):
        check_sizes(network, content(text.replace("Add", "Sub")), integer=False)


def test_inputs_of_unknown_rank_are_tried_at_several(load: Load) -> None:
    model = onnx.parser.parse_model(HEAD + "g (float[n] x) => (y) { y = Neg(x) }")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    network = load("g (float[n] x) => (y) { y = Neg(x) }")
    network.path.write_bytes(model.SerializeToString())
    checked = check_sizes(load_network(network.path), model.SerializeToString(), integer=False)
    assert len({len(shapes["x"]) for shapes in checked.ran}) > 2


def test_text_and_whole_numbers_are_compared_too(load: Load) -> None:
    network = load(
        "g (string[n] x, int32[n] z) => (string[n] y, int32[n] q) { y = Identity(x) q = Neg(z) }"
    )
    assert (
        check_sizes(network, network.model.SerializeToString(), integer=False).max_difference == 0
    )
    with pytest.raises(SelfCheckError):
        check_sizes(
            network,
            content(
                "g (string[n] x, int32[n] z) => (string[n] y, int32[n] q) { y = Identity(x) q ="
                " Abs(z) }"
            ),
            integer=False,
        )


def test_random_values_do_not_change_from_call_to_call(load: Load) -> None:
    network = load("g (float[n, 3] x) => (float[n, 3] y) { y = Neg(x) }")
    first, second = (
        check_sizes(network, network.model.SerializeToString(), integer=False) for _ in range(2)
    )
    assert first == second
    assert np.isfinite(first.max_difference)
