"""Files that must be refused with one clear error that names the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cimrobust.errors import CimrobustError, InputRefusedError, ModelNotCoveredError, UsageError
from cimrobust.onnx_io.load_network import load_network

Write = Callable[..., Path]

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
GOOD = (
    HEAD
    + """g (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] W = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { y = MatMul(x, W) }"""
)


def refusal(path: Path, kind: type[CimrobustError] = InputRefusedError) -> str:
    """Load a file that must be refused; return the message, which must be one line and name the
    file.
    """
    with pytest.raises(CimrobustError) as caught:
        load_network(path)
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert path.name in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (
            "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(missing) }",
            InputRefusedError,
            "'missing'",
        ),
        (
            "g (float[N, 4] x) => (float[N, 4] y) { z = Relu(x) }",
            InputRefusedError,
            "output 'y' is made by no node",
        ),
        (
            "g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, b) b = Relu(a) a = Relu(b) }",
            InputRefusedError,
            "cycle",
        ),
        (
            "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) y = Neg(x) }",
            InputRefusedError,
            "more than one node",
        ),
        (
            (
                "g (float[N, 4] x) => (float[N, 4] y) <float[1] a = {1}, float[1] a = {2}> { y ="
                " Add(x, a) }"
            ),
            InputRefusedError,
            "defined twice",
        ),
        (
            (
                "g (float[N, 4] x, bool c) => (float[N, 4] y) <float[1] a = {1}> { y = If (c) <"
                " then_branch = th () => (float[N, 4] t) <float[1] a = {2}> { t = Add(x, a) },"
                " else_branch = el () => (float[N, 4] e) { e = Add(x, a) }> }"
            ),
            InputRefusedError,
            "has the name of another one outside, and runtimes differ",
        ),
        (
            "g (float[N, 4] x, float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }",
            InputRefusedError,
            "declared twice",
        ),
        (
            "g (float[N, 4] x) => (float[N, 4] y) { y = Rellu(x) }",
            InputRefusedError,
            "does not exist",
        ),
        (
            "g (float[N, 4] x) => (float[N, 4] y) { y = Upsample(x, x) }",
            InputRefusedError,
            "no longer has",
        ),
        (
            "g (float[N, 4] x) => (float[N, 4] y) { y = ai.onnx.ml.Scaler(x) }",
            InputRefusedError,
            "not imported",
        ),
        (
            (
                "g (float[N, 4] x) => (float[N, 4] y) { y = my.domain.Magic(x) z ="
                " my.domain.Other(y) }"
            ),
            ModelNotCoveredError,
            "Other",
        ),
        (
            "g (float[3, 4] x) => (float[3, 5] y) { z = Relu(x) y = MatMul(x, z) }",
            InputRefusedError,
            "contradict",
        ),
        ("g (float[2, 4] x) => (float[2, 4] y) { y = Add(x, x, x) }", InputRefusedError, "Add"),
        ("g (float[2, 4] x) => (float[2, 4] y) { y = Concat(x, x) }", InputRefusedError, "axis"),
        (
            "g (float[2, 4] x) => (float[2, 4] y) { y = Gemm <transB: float = 1.0> (x, x) }",
            InputRefusedError,
            "transB",
        ),
        (
            "g (seq(float[2]) x) => (float[2] y) { y = ConcatFromSequence <axis = 0> (x) }",
            ModelNotCoveredError,
            "sequence",
        ),
        ("g (float[2, 4] x) => (int64[2, 4] y) { y = Relu(x) }", InputRefusedError, "type"),
    ],
)
def test_a_wrong_graph_is_refused(
    write: Write, text: str, kind: type[CimrobustError], says: str
) -> None:
    assert says in refusal(write(HEAD + text), kind)


def test_all_unknown_nodes_are_named_together(write: Write) -> None:
    message = refusal(
        write(HEAD + "g (float[4] x) => (float[4] y) { a = one.A(x) b = two.B(a) y = three.C(b) }"),
        ModelNotCoveredError,
    )
    assert all(op in message for op in ("one::A", "two::B", "three::C"))


@pytest.mark.parametrize("kept", [0, 1, 10, 40, 80, -20, -1])
def test_a_truncated_file_is_refused(write: Write, kept: int) -> None:
    path = write(GOOD)
    path.write_bytes(path.read_bytes()[:kept])
    refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is no model\n" * 20,
        bytes(range(256)) * 8,
        b"\x00" * 4096,
        b"PK\x03\x04" + b"\x11" * 99,
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    refusal(path)


def test_what_is_no_file_is_wrong_usage(tmp_path: Path) -> None:
    refusal(tmp_path, UsageError)
    refusal(tmp_path / "absent.onnx", UsageError)


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe.onnx"
    os.mkfifo(path)
    refusal(path)


@pytest.mark.parametrize(
    ("ir_version", "opset", "kind"),
    [
        (2, 17, InputRefusedError),
        (999, 17, InputRefusedError),
        (8, 6, ModelNotCoveredError),
        (8, 999, ModelNotCoveredError),
    ],
)
def test_versions_out_of_range_are_refused(
    write: Write, ir_version: int, opset: int, kind: type[CimrobustError]
) -> None:
    path = write(
        f'<ir_version: {ir_version}, opset_import: ["": {opset}]> g (float[4] x) => (float[4] y) {{'
        " y = Relu(x) }"
    )
    refusal(path, kind)


def edited(path: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.ModelProto.FromString(path.read_bytes())
    edit(model)
    path.write_bytes(model.SerializeToString())
    return path


def weight(model: onnx.ModelProto) -> onnx.TensorProto:
    return model.graph.initializer[0]


def negative_dims(model: onnx.ModelProto) -> None:
    weight(model).dims[:] = [-4, -3]


def lying_dims(model: onnx.ModelProto) -> None:
    weight(model).dims[:] = [4, 4]


def huge_dims(model: onnx.ModelProto) -> None:
    weight(model).dims[:] = [2**40, 2**40]


def empty_huge_dims(model: onnx.ModelProto) -> None:
    weight(model).dims[:] = [2**40, 2**40, 0, 1]


def many_dims(model: onnx.ModelProto) -> None:
    weight(model).dims[:] = [1] * 100


def unknown_type(model: onnx.ModelProto) -> None:
    weight(model).data_type = 77


def short_raw_data(model: onnx.ModelProto) -> None:
    tensor = weight(model)
    tensor.ClearField("float_data")
    tensor.raw_data = b"\0" * 47


def infinite_weight(model: onnx.ModelProto) -> None:
    weight(model).float_data[5] = np.inf


def nan_weight(model: onnx.ModelProto) -> None:
    weight(model).float_data[5] = np.nan


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def two_opsets(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="ai.onnx", version=9)


def wrong_weight_shape(model: onnx.ModelProto) -> None:
    weight(model).dims[:] = [3, 4]


def bad_name(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "evil\nname: \x1b[31m"
    model.graph.node[0].op_type = "No\nOp"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (negative_dims, "negative dims"),
        (lying_dims, "needs 16 values"),
        (huge_dims, "more than the limit"),
        (empty_huge_dims, "W"),
        (many_dims, "100 axes"),
        (unknown_type, "unknown data type 77"),
        (short_raw_data, "needs 48 bytes, holds 47"),
        (infinite_weight, "holds infinity"),
        (nan_weight, "1 NaN, first at [1, 2]"),
        (no_opset, "no operator set"),
        (two_opsets, "imported 2 times"),
        (wrong_weight_shape, "contradict"),
        (bad_name, "No Op"),
    ],
)
def test_a_wrong_tensor_or_header_is_refused(
    write: Write, edit: Callable[[onnx.ModelProto], None], says: str
) -> None:
    assert says in refusal(edited(write(GOOD), edit))


def test_all_wrong_tensors_are_named_together(write: Write) -> None:
    path = write(
        HEAD
        + "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> { c = Add(x,"
        " a) y = Add(c, b) }"
    )

    def shorten(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            tensor.dims[:] = [3]

    message = refusal(edited(path, shorten))
    assert "'a'" in message
    assert "'b'" in message


@pytest.mark.parametrize(
    "body",
    [
        (
            "s = Constant <value_ints = [100000, 10737]> () z = ConstantOfShape(s) r = ReduceSum"
            " <keepdims = 0> (z) y = Add(x, r)"
        ),
        (
            "s = Constant <value_ints = [100000, 10737]> () z = Expand(x, s) r = ReduceSum"
            " <keepdims = 0> (z) y = Add(x, r)"
        ),
    ],
)
def test_a_small_file_that_asks_for_gigabytes_is_refused(write: Write, body: str) -> None:
    assert "needs more than" in refusal(
        write(HEAD + f"g (float[1] x) => (float[1] y) {{ {body} }}")
    )


def test_bodies_nested_too_deep_are_refused(write: Write) -> None:
    path = write(HEAD + "g (float[2] x, bool c) => (float[2] y) { y = Relu(x) }")

    def nest(model: onnx.ModelProto) -> None:
        body = onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["deep"])],
            "deep",
            [],
            [onnx.helper.make_tensor_value_info("deep", 1, [2])],
        )
        for level in range(24):
            name = f"y{level}" if level < 23 else "y"
            node = (
                onnx.helper.make_node("If", ["c"], [name], then_branch=body, else_branch=body)
                if level == 0
                else None
            )
            node = node or onnx.helper.make_node("If", ["c"], [name], then_branch=body)
            body = onnx.helper.make_graph(
                [node], name, [], [onnx.helper.make_tensor_value_info(name, 1, [2])]
            )
        model.graph.CopyFrom(
            onnx.helper.make_graph(
                list(body.node), "g", list(model.graph.input), list(model.graph.output)
            )
        )

    refusal(edited(path, nest))


def test_functions_that_call_each_other_are_refused(write: Write) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "my": 1]> g (float[2] x) => (float[2] y) { y = my.f(x) }
    <domain: "my", opset_import: ["": 17, "my": 1]> f (a) => (b) { b = my.h(a) }
    <domain: "my", opset_import: ["": 17, "my": 1]> h (a) => (b) { b = my.f(a) }"""  # noqa: E501
    assert "circle" in refusal(write(text))


def test_functions_that_explode_are_refused(write: Write) -> None:
    functions = "".join(
        f'<domain: "my", opset_import: ["": 17, "my": 1]> f{level} (a) => (b) {{ c ='
        f" my.f{level + 1}(a) d = my.f{level + 1}(c) e = my.f{level + 1}(d) b ="
        f" my.f{level + 1}(e) }}"
        for level in range(16)
    )
    text = f"""<ir_version: 8, opset_import: ["": 17, "my": 1]> g (float[2] x) => (float[2] y) {{ y = my.f0(x) }} {functions}
    <domain: "my", opset_import: ["": 17, "my": 1]> f16 (a) => (b) {{ b = Relu(a) }}"""  # noqa: E501
    assert "expand to" in refusal(write(text))


@pytest.mark.parametrize(
    ("places", "shape", "says"),
    [
        ([0, 12], [4, 3], "outside it"),
        ([-1, 3], [4, 3], "outside it"),
        ([5, 0], [4, 3], "do not ascend"),
        ([5, 5], [4, 3], "do not ascend"),
        ([5], [4, 3], r"needs indices of shape [2] or [2, 2], holds [1]"),
        ([[0, 0], [0, 3]], [4, 3], "outside it"),
        ([0, 5], [2**40, 3], "more than the limit"),
        ([0, 5], [-4, 3], "negative dims"),
        ([0, 5], [], "has no shape"),
    ],
)
def test_sparse_tensors_that_contradict_themselves_are_refused(
    write: Write, places: list[int], shape: list[int], says: str
) -> None:
    indices = np.asarray(places)

    def make_sparse(model: onnx.ModelProto) -> None:
        sparse = onnx.SparseTensorProto(dims=shape)
        sparse.values.CopyFrom(onnx.helper.make_tensor("W", 1, [2], [1.0, 2.0]))
        sparse.indices.CopyFrom(onnx.helper.make_tensor("i", 7, indices.shape, indices.ravel()))
        del model.graph.initializer[:]
        model.graph.sparse_initializer.append(sparse)

    assert says in refusal(edited(write(GOOD), make_sparse))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("data_type", onnx.TensorProto.STRING, "holds texts"),
        ("data_location", onnx.TensorProto.EXTERNAL, "keeps its data in another file"),
        ("dims", [2, 1], "needs int64 indices and values along one axis"),
    ],
)
def test_values_of_a_sparse_tensor_of_another_kind_are_refused(
    write: Write, field: str, value: object, says: str
) -> None:
    def make_sparse(model: onnx.ModelProto) -> None:
        sparse = onnx.SparseTensorProto(dims=[4, 3])
        sparse.values.CopyFrom(onnx.helper.make_tensor("W", 1, [2], [1.0, 2.0]))
        sparse.indices.CopyFrom(onnx.helper.make_tensor("i", 7, [2], [0, 5]))
        if field == "dims":
            sparse.values.dims[:] = value
        else:
            setattr(sparse.values, field, value)
        node = model.graph.node.add(op_type="Constant", output=["W"])
        node.attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
        del model.graph.initializer[:]

    assert says in refusal(edited(write(GOOD), make_sparse))


def test_shapes_that_cannot_be_found_within_limits_are_refused(write: Write) -> None:
    path = write(
        '<ir_version: 8, opset_import: ["": 18]> g (float[1, 2] x) => (float[1, 1] y) { y, z ='
        " Split <num_outputs = 900000000> (x) }"
    )
    assert "does not end within" in refusal(path)
