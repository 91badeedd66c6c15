"""A network cut at its crossbar nodes against the whole, in onnxruntime: hand-made graphs and the
zoo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from cimrobust.onnx_io.crossbar_nodes import CROSSBAR_OPS, CrossbarNode, crossbar_nodes
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.deployed import Deployed
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.lower import lower
from cimrobust.onnx_io.partition import Plan, Segment, partition
from cimrobust.onnx_io.scan import scan_layers
from tests.exact_runs import exact_model, exact_options
from tests.zoo_networks import ZOO_NETWORKS, zoo_entries

Arrays = Mapping[str, np.ndarray]
Deploy = Callable[..., Deployed]

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>'


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Open a model without optimisation, so that nodes compute the same alone and among others."""
    options = exact_options()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(exact_model(model), options, providers=["CPUExecutionProvider"])


def run_node(step: CrossbarNode, tensors: Arrays, weights: Arrays) -> list[np.ndarray]:
    """Run a crossbar node alone, its operands gathered from the stored weights."""
    operands = {
        operand.slot: np.concatenate([weights[leaf].ravel() for leaf in operand.leaves])[
            operand.index
        ]
        for operand in step.operands
    }
    feeds = {
        f"in{slot}": operands[slot] if slot in operands else tensors[name]
        for slot, name in enumerate(step.inputs)
        if name
    }
    node = onnx.helper.make_node(
        step.op,
        [f"in{slot}" if name else "" for slot, name in enumerate(step.inputs)],
        list(step.outputs),
    )
    node.attribute.extend(
        onnx.helper.make_attribute(name, value) for name, value in step.attributes.items()
    )
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in step.outputs if name]
    graph = onnx.helper.make_graph([node], "node", inputs, outputs)
    return list(
        session(
            onnx.helper.make_model(
                graph, opset_imports=[onnx.helper.make_opsetid("", step.opset)], ir_version=8
            )
        ).run(None, feeds)
    )


def run_plan(plan: Plan, deployed: Deployed, output: str, feeds: Arrays) -> np.ndarray:
    """Run a plan step by step; a tensor is dropped as soon as the plan says that nothing reads it
    any more.
    """
    stored = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in deployed.model.graph.initializer
    }
    weights = {name: stored[name] for name in deployed.weight_names}
    tensors = dict(feeds)
    for step, released in zip(plan.steps, plan.releases, strict=True):
        if isinstance(step, Segment):
            made = session(step.model).run(
                list(step.outputs), {name: tensors[name] for name in step.inputs}
            )
            tensors.update(zip(step.outputs, made, strict=True))
        else:
            made = run_node(step, {**tensors, **plan.constants}, weights)
            tensors.update(zip([name for name in step.outputs if name], made, strict=True))
        for name in released:
            del tensors[name]
    assert set(tensors) <= {output, *feeds}
    return tensors[output]


def check(deployed: Deployed, feeds: Arrays, *, rtol: float = 0.0) -> dict[str, Plan]:
    """Check the plan of every output; the deployed network before lowering is what they must equal."""  # noqa: E501
    lowered = lower(deployed)
    nodes, _ = crossbar_nodes(lowered)
    whole = session(deployed.model)
    plans: dict[str, Plan] = {}
    for spec in deployed.outputs:
        plan = plans[spec.name] = partition(lowered, nodes, spec.name)
        used = {value.name for value in whole.get_inputs()}
        expected = whole.run(
            [spec.name], {name: value for name, value in feeds.items() if name in used}
        )[0]
        got = run_plan(plan, lowered, spec.name, feeds)
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=rtol * float(np.abs(expected).max(initial=0))
        )
        assert got.dtype == expected.dtype
    return plans


def kinds(plan: Plan) -> list[str]:
    return ["segment" if isinstance(step, Segment) else step.op for step in plan.steps]


@pytest.fixture
def make(tmp_path: Path) -> Deploy:
    """Write a model given as ONNX text, with arrays as initializers, load and deploy it."""

    def make(text: str, head: str = HEAD, **arrays: np.ndarray) -> Deployed:
        model = onnx.parser.parse_model(f"{head} {text}")
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, name) for name, values in arrays.items()
        )
        (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
        network = load_network(tmp_path / "model.onnx")
        return deploy(network, scan_layers(network), widen=False)

    return make


def test_a_chain_has_a_segment_between_two_layers(make: Deploy) -> None:
    deployed = make(
        "g (float[n, 4] x) => (float[n, 3] y) { h = Gemm (x, V, b)  r = Relu (h)  m = MatMul (r, W)"
        "  y = Tanh (m) }",
        V=normal(4, 5),
        W=normal(5, 3),
        b=normal(5, seed=1),
    )
    plan = check(deployed, {"x": normal(2, 4)})["y"]
    assert kinds(plan) == ["Gemm", "segment", "MatMul", "segment"]
    assert list(plan.constants) == ["b"]
    assert plan.releases == (("x",), ("h",), ("r",), ("m",))
    segment = plan.steps[1]
    assert isinstance(segment, Segment)
    assert (segment.inputs, segment.outputs, segment.weight_names) == (("h",), ("r",), ())
    assert not segment.model.graph.initializer
    onnx.checker.check_model(segment.model, full_check=True)


def test_a_residual_network_has_one_segment_a_layer(make: Deploy) -> None:
    deployed = make(
        """g (float[n, 2, 6, 6] x) => (float[n, 2, 6, 6] y) {
            a = Relu (x)
            c = Conv <pads = [1, 1, 1, 1]> (a, V)
            d = Relu (c)
            e = Conv <pads = [1, 1, 1, 1]> (d, W)
            s = Add (e, a)
            f = Relu (s)
            i = Conv (f, U)
            y = Add (i, s)
        }""",
        V=normal(2, 2, 3, 3),
        W=normal(2, 2, 3, 3, seed=1),
        U=normal(2, 2, 1, 1, seed=2),
    )
    plan = check(deployed, {"x": normal(3, 2, 6, 6)})["y"]
    assert kinds(plan) == ["segment", "Conv", "segment", "Conv", "segment", "Conv", "segment"]
    assert plan.releases[0] == ("x",)
    assert "a" in plan.releases[4]


def test_parallel_layers_share_their_segments(make: Deploy) -> None:
    deployed = make(
        """g (float[n, 4] x) => (float[n, 4] y) {
            a = MatMul (x, V)  b = MatMul (x, W)  c = MatMul (a, V)
            ra = Relu (a)  rb = Relu (b)  rc = Relu (c)  s = Add (ra, rb)  y = Add (s, rc)
        }""",
        V=normal(4, 4),
        W=normal(4, 4, seed=1),
    )
    plan = check(deployed, {"x": normal(2, 4)})["y"]
    assert kinds(plan) == ["MatMul", "MatMul", "segment", "MatMul", "segment"]
    assert [step.operands[0].leaves for step in plan.steps if isinstance(step, CrossbarNode)] == [
        ("V",),
        ("W",),
        ("V",),
    ]


def test_only_what_an_output_depends_on_is_kept(make: Deploy) -> None:
    deployed = make(
        "g (float[n, 4] x, float[n, 3] z) => (float[n, 4] h, float[n, 3] y, float[n, 3] t) {"
        " h = MatMul (x, V)  y = MatMul (h, W)  t = Relu (z) }",
        V=normal(4, 4),
        W=normal(4, 3, seed=1),
    )
    plans = check(deployed, {"x": normal(2, 4), "z": normal(2, 3)})
    assert kinds(plans["t"]) == ["segment"]
    assert kinds(plans["h"]).count("MatMul") == 1
    assert kinds(plans["y"]).count("MatMul") == 2


def test_a_layer_whose_output_is_read_again_may_be_the_output() -> None:
    model = onnx.parser.parse_model(
        f"{HEAD} g (float[n, 4] x) => (float[n, 4] h, float[n, 4] y) <float[4, 4] W> {{ h = MatMul"
        " (x, W)  y = Relu (h) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(4, 4), "W"))
    for position, proto in enumerate(model.graph.node):
        proto.name = f"node{position}"
    deployed = Deployed(
        model, ("W",), {"W": (4, 4)}, (), (), "dynamic", None, ()
    )  # loading would put an Identity between
    (node,), _ = crossbar_nodes(deployed)
    whole = session(model).run(None, {"x": normal(2, 4)})
    for name, expected in zip(("h", "y"), whole, strict=True):
        plan = partition(deployed, [node], name)
        np.testing.assert_array_equal(run_plan(plan, deployed, name, {"x": normal(2, 4)}), expected)
    assert kinds(partition(deployed, [node], "h")) == ["MatMul"]


def test_the_path_of_a_weight_stays_out_of_segments(make: Deploy) -> None:
    deployed = make(
        """g (float[n, 4] x) => (float[n, 3] y) {
            v = Transpose <perm = [1, 0]> (W)  s = Reshape (v, shape)  r = Relu (x)  h = MatMul (r, s)  y = Relu (h)
        }""",  # noqa: E501
        W=normal(3, 4),
        shape=np.array([4, 3]),
    )
    plan = check(deployed, {"x": normal(2, 4)})["y"]
    assert kinds(plan) == ["segment", "MatMul", "segment"]
    assert all(
        not step.weight_names and len(step.model.graph.node) == 1
        for step in plan.steps
        if isinstance(step, Segment)
    )
    matmul = plan.steps[1]
    assert isinstance(matmul, CrossbarNode)
    np.testing.assert_array_equal(matmul.operands[0].index, np.arange(12).reshape(3, 4).T)


def test_a_constant_left_operand_is_stored(make: Deploy) -> None:
    deployed = make(
        "g (float[n, 4, 2] x) => (float[n, 3, 2] y) { y = MatMul (W, x) }",
        W=normal(3, 4),
    )
    (matmul,) = check(deployed, {"x": normal(5, 4, 2)})["y"].steps
    assert isinstance(matmul, CrossbarNode)
    assert (matmul.operands[0].slot, matmul.operands[0].role, matmul.data_inputs) == (
        0,
        "A",
        ("x",),
    )


def test_a_bias_that_is_computed_stays_a_tensor(make: Deploy) -> None:
    deployed = make(
        "g (float[n, 4] x, float[3] z) => (float[n, 3] y) { b = Exp (z)  y = Gemm <beta = 2.0> (x,"
        " W, b) }",
        W=normal(4, 3),
    )
    plan = check(deployed, {"x": normal(2, 4), "z": normal(3)})["y"]
    assert kinds(plan) == ["segment", "Gemm"]
    assert not plan.constants


def test_a_bias_made_of_constants_is_a_constant(make: Deploy) -> None:
    deployed = make(
        "g (float[n, 4] x) => (float[n, 3] y) { b = Mul (c, d)  y = Gemm (x, W, b) }",
        W=normal(4, 3),
        c=normal(3),
        d=normal(3, seed=1),
    )
    plan = check(deployed, {"x": normal(2, 4)})["y"]
    assert kinds(plan) == ["Gemm"]
    np.testing.assert_array_equal(plan.constants["b"], normal(3) * normal(3, seed=1))


def test_bodies_read_tensors_and_weights_from_outside(make: Deploy) -> None:
    deployed = make(
        """g (float[n, 4] x, bool c) => (float[n, 4] y) {
            h = MatMul (x, W)
            r = Relu (h)
            t = MatMul (r, V)
            y = If (c) <
                then_branch = yes () => (float[n, 4] p) { q = MatMul (r, W)  p = Add (q, t) },
                else_branch = no () => (float[n, 4] o) { o = Add (h, b) }
            >
        }""",
        W=normal(4, 4),
        V=normal(4, 4, seed=1),
        b=normal(4),
    )
    for choice in (True, False):
        plan = check(deployed, {"x": normal(2, 4), "c": np.array(choice)})["y"]
    assert kinds(plan) == ["MatMul", "segment", "MatMul", "segment"]
    last = plan.steps[-1]
    assert isinstance(last, Segment)
    assert last.inputs == ("c", "h", "r", "t")
    assert last.weight_names == ("W",)
    _, (digital,) = crossbar_nodes(deployed)
    assert (digital.op, digital.reason) == ("MatMul", "digital: inside a body")


def test_sequences_may_lie_between_segments(make: Deploy) -> None:
    deployed = make(
        """g (float[4, 4] x) => (float[8, 4] y) {
            s = SplitToSequence (x)  h = MatMul (x, W)  r = Relu (h)
            all = SequenceInsert (s, r)  y = ConcatFromSequence <axis = 0> (all)
        }""",
        W=normal(4, 4),
    )
    plan = check(deployed, {"x": normal(4, 4)})["y"]
    assert kinds(plan) == ["segment", "MatMul", "segment"]
    assert plan.steps[0].outputs == ("s",)


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_layers_have_two_operands_and_constant_states(
    make: Deploy, op: str, gates: int
) -> None:
    deployed = make(
        f"""g (float[t, 2, 4] x, int32[2] lengths) => (float[t, 1, 2, 3] y, float[1, 2, 3] last) {{
            r = Relu (x)  h, last = {op} <hidden_size = 3> (r, W, R, b, lengths, state)  y = Relu (h)
        }}""",  # noqa: E501
        W=normal(1, 3 * gates, 4),
        R=normal(1, 3 * gates, 3, seed=1),
        b=normal(1, 6 * gates, seed=2),
        state=normal(1, 2, 3, seed=3),
    )
    plan = check(deployed, {"x": normal(5, 2, 4), "lengths": np.array([5, 3], np.int32)})["y"]
    assert kinds(plan) == ["segment", op, "segment"]
    assert list(plan.constants) == ["b", "state"]
    layer = plan.steps[1]
    assert isinstance(layer, CrossbarNode)
    assert [(operand.slot, operand.role, operand.leaves) for operand in layer.operands] == [
        (1, "W", ("W",)),
        (2, "R", ("R",)),
    ]
    assert layer.attributes == {"hidden_size": 3}
    assert plan.releases[1] == ("lengths", "r") or set(plan.releases[1]) >= {"lengths", "r"}


@pytest.mark.parametrize(
    ("text", "arrays", "reason"),
    [
        (
            (
                "g (float[5, 2, 4] x, float[1, 12, 3] R) => (float[5, 1, 2, 3] y) { y = LSTM"
                " <hidden_size = 3> (x, W, R) }"
            ),
            {"W": normal(1, 12, 4)},
            "only W is stored",
        ),
        (
            "g (double[n, 4] x) => (double[n, 3] y) { y = MatMul (x, W) }",
            {"W": normal(4, 3).astype(np.float64)},
            "another type than float32",
        ),
        (
            (
                'g (float[n, 4, 3] x) => (float[n, 4, 3] y) { y = Einsum <equation = "abc,bc->abc">'
                " (x, W) }"
            ),
            {"W": normal(4, 3)},
            None,
        ),
        (
            'g (float[n, 4] x) => (float y) { y = Einsum <equation = "ab,bc->c"> (x, W)  }',
            {"W": normal(4, 3)},
            "no Einsum",
        ),
    ],
)
def test_what_the_kernel_cannot_do_stays_digital(
    make: Deploy, text: str, arrays: Arrays, reason: str | None
) -> None:
    deployed = make(text, **arrays)
    feeds = {
        value.name: (
            normal(*(dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim)).astype(
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            )
        )
        for value in deployed.model.graph.input
    }
    plan = check(deployed, feeds)["y"]
    _, digital = crossbar_nodes(lower(deployed))
    if reason is None:
        assert not digital
        return
    assert reason in digital[0].reason
    assert kinds(plan) == ["segment"]
    assert plan.steps[0].weight_names == ("W",)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("call", "x", "weight"),
    [
        (
            'com.microsoft.FusedConv <activation = "Relu", pads = [1, 1, 1, 1]> (x, W)',
            (2, 2, 5, 5),
            (2, 2, 3, 3),
        ),
        (
            (
                'com.microsoft.FusedConv <activation = "LeakyRelu", activation_params = [0.25]> (x,'
                " W, b)"
            ),
            (2, 2, 5, 5),
            (2, 2, 3, 3),
        ),
        (
            'com.microsoft.FusedConv <activation = "Clip", activation_params = [-0.5, 1.0]> (x, W)',
            (2, 2, 5, 5),
            (2, 2, 3, 3),
        ),
        (
            'com.microsoft.FusedConv <activation = "Relu", pads = [1, 1, 1, 1]> (x, W, b, x)',
            (2, 2, 5, 5),
            (2, 2, 3, 3),
        ),
        (
            'com.microsoft.FusedGemm <activation = "Tanh", transB = 1, alpha = 0.5> (x, W, b)',
            (3, 4),
            (2, 4),
        ),
        ("com.microsoft.FusedMatMul <transB = 1, alpha = 0.5> (x, W)", (3, 5, 4), (2, 4)),
        ("com.microsoft.FusedMatMul <transA = 1> (x, W)", (3, 4, 5), (4, 2)),
        ("com.microsoft.FusedMatMul <transA = 1> (W, x)", (3, 4, 5), (4, 2)),
    ],
)
def test_fused_layers_become_plain_ones(
    make: Deploy, call: str, x: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    dims = ", ".join(str(size) for size in x)
    deployed = make(
        f"g (float[{dims}] x) => (float y) {{ y = {call} }}", W=normal(*weight), b=normal(2, seed=1)
    )
    check(
        deployed, {"x": normal(*x, seed=2)}, rtol=1e-6
    )  # float32 sums of at most 18 terms in another order
    found, digital = crossbar_nodes(lower(deployed))
    assert len(found) == 1
    assert not digital


def test_a_rank_that_inference_does_not_know_is_read_off_the_nodes_before(make: Deploy) -> None:
    deployed = make(
        """g (float[n, k, 5] x, int64[3] s) => (float y) {
            r = Reshape (x, s)  b = Relu (r)  y = com.microsoft.FusedMatMul <transA = 1> (b, W)
        }""",
        W=normal(4, 2),
    )
    check(
        deployed, {"x": normal(3, 4, 5), "s": np.array([3, 4, 5])}, rtol=1e-6
    )  # float32 sums of 4 terms in another order
    _, digital = crossbar_nodes(lower(deployed))
    assert not digital


@pytest.mark.parametrize(
    ("equation", "x", "weight"),
    [
        ("ab,bc->ac", (3, 4), (4, 5)),
        ("ab,cb->ca", (3, 4), (5, 4)),
        ("bf,fnh->bnh", (3, 4), (4, 2, 5)),
        ("bfnh,nhd->bfd", (3, 6, 2, 5), (2, 5, 4)),
        ("...f,fd->...d", (3, 6, 4), (4, 5)),
        ("f...,fd->d...", (4, 3, 6), (4, 5)),
        ("bnf,nfd->bnd", (3, 2, 4), (2, 4, 5)),
        ("bnfx,nfd->bxdn", (3, 2, 4, 6), (2, 4, 5)),
        ("nf,nfd->nd", (2, 4), (2, 4, 5)),
        ("f,fd->d", (4,), (4, 5)),
        ("f,f->", (4,), (4,)),
        ("a,b->ab", (4,), (5,)),
        ("ab,ab->a", (3, 4), (3, 4)),
        ("ab,ab->ba", (3, 4), (3, 4)),
        ("ab,bc", (3, 4), (4, 5)),
    ],
)
@pytest.mark.parametrize("is_left", [False, True])
def test_products_of_einsum_become_matmul(
    make: Deploy, equation: str, x: tuple[int, ...], weight: tuple[int, ...], is_left: bool
) -> None:
    left, arrow, out = equation.partition("->")
    terms, operands = left.split(","), ["x", "W"]
    if is_left:
        terms, operands = terms[::-1], operands[::-1]
    equation = ",".join(terms) + arrow + out
    dims = ", ".join(str(size) for size in x)
    deployed = make(
        f'g (float[{dims}] x) => (float y) {{ y = Einsum <equation = "{equation}"> ({operands[0]},'
        f" {operands[1]}) }}",
        W=normal(*weight),
    )
    check(
        deployed, {"x": normal(*x, seed=1)}, rtol=1e-6
    )  # float32 sums of at most 10 terms in another order
    found, digital = crossbar_nodes(lower(deployed))
    assert [node.op for node in found] == ["MatMul"]
    assert not digital


def random_feeds(inputs: Sequence[Any], seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        spec.name: (
            generator.normal(
                size=[dim if isinstance(dim, int) else 3 for dim in spec.shape]
            ).astype(spec.dtype)
        )
        for spec in inputs
    }


@pytest.mark.parametrize("name", ZOO_NETWORKS)
def test_the_zoo(zoo: Path, name: str) -> None:
    entry = zoo_entries(zoo)[name]
    network = load_network(zoo / entry["file"])
    deployed = deploy(network, scan_layers(network))
    plan, *_ = check(
        deployed, random_feeds(deployed.inputs, 0), rtol=1e-6
    ).values()  # the same kernels in the same order
    nodes, digital = crossbar_nodes(lower(deployed))
    assert not digital
    assert {node.op for node in nodes} <= CROSSBAR_OPS
    assert {leaf for node in nodes for operand in node.operands for leaf in operand.leaves} == set(
        deployed.weight_names
    )
    segments = [step for step in plan.steps if isinstance(step, Segment)]
    assert len(segments) <= len(nodes) + 1
    assert not any(segment.weight_names for segment in segments)
