"""Networks that take another branch for other sizes, on the command line: read whole, written
whole.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from cimrobust.cli.main import run
from cimrobust.onnx_io.branches import Branches

CONDITIONS = {"equal sizes": "c = Equal(H, W)", "modulo": "r = Mod(H, i4) c = Equal(r, i0)"}


def write_network(folder: Path, condition: str) -> Path:
    text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[n, 4, h, w] x) => (float[n, 3] y)
    <int64 i0 = {{0}}, int64 i2 = {{2}}, int64 i3 = {{3}}, int64 i4 = {{4}}> {{
    s = Shape(x) H = Gather(s, i2) W = Gather(s, i3) {condition} p = ReduceMean <axes = [2, 3], keepdims = 0> (x)
    y = If (c) <then_branch = a () => (float[n, 3] t) {{ t = MatMul(p, W1) }},
                else_branch = b () => (float[n, 3] e) {{ e = MatMul(p, W2) }}> }}"""  # noqa: E501
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(1)
    for name in ("W1", "W2"):
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(generator.standard_normal((4, 3)).astype(np.float32), name)
        )
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def outputs(path: Path, images: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(path.read_bytes()).run(None, {"x": images})[0])


@pytest.mark.parametrize("condition", list(CONDITIONS))
def test_inspect_lists_both_branches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], condition: str
) -> None:
    assert run(["inspect", str(write_network(tmp_path, CONDITIONS[condition])), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert sorted(layer["initializer"] for layer in layers) == ["W1", "W2"]


@pytest.mark.parametrize(
    ("condition", "shape"),
    [("equal sizes", (8, 6)), ("equal sizes", (6, 6)), ("modulo", (8, 6)), ("modulo", (7, 4))],
)
def test_analyze_scores_the_branch_that_the_data_take(
    tmp_path: Path, condition: str, shape: tuple[int, int]
) -> None:
    path = write_network(tmp_path, CONDITIONS[condition])
    images = np.random.default_rng(2).standard_normal((24, 4, *shape)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images, y=outputs(path, images).argmax(axis=1))
    out = tmp_path / "out"
    assert (
        run(
            [
                "analyze",
                str(path),
                "--data",
                str(tmp_path / "data.npz"),
                "--effort",
                "quick",
                "--trials",
                "5",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    certificate = json.loads((out / "certificate.json").read_text())
    assert certificate["clean"]["score"] == 1.0
    assert certificate["certified"]["score"] is not None
    witness = onnx.load(out / "witness" / "worst_case.onnx")
    assert "If" in [node.op_type for node in witness.graph.node]


@pytest.mark.parametrize("condition", list(CONDITIONS))
def test_rewrite_keeps_the_branches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], condition: str
) -> None:
    path, target = write_network(tmp_path, CONDITIONS[condition]), tmp_path / "crossbars.onnx"
    assert run(["rewrite", str(path), "-o", str(target), "--tolerance", "0"]) == 0
    assert "agree with the file's own at 10 sizes" in capsys.readouterr().out
    for shape in [(8, 6), (6, 6), (7, 4), (4, 4), (5, 9)]:
        images = np.random.default_rng(3).standard_normal((3, 4, *shape)).astype(np.float32)
        # 8 bits: a weight is off by half of 1/255 of the largest, about 2.
        np.testing.assert_allclose(outputs(target, images), outputs(path, images), atol=0.02)


def test_a_wrong_network_is_never_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = write_network(tmp_path, CONDITIONS["equal sizes"]), tmp_path / "crossbars.onnx"

    def wrong(model: onnx.ModelProto, opsets: object) -> Branches:
        """Take the first branch of every node, as if all conditions held."""
        node = next(node for node in model.graph.node if node.op_type == "If")
        nodes = list(node.attribute[0].g.node)
        nodes.append(
            onnx.helper.make_node(
                "Identity", [node.attribute[0].g.output[0].name], ["y"], name="taken"
            )
        )
        kept = [*(other for other in model.graph.node if other.op_type != "If"), *nodes]
        copies = [onnx.NodeProto.FromString(other.SerializeToString()) for other in kept]
        del model.graph.node[:]
        model.graph.node.extend(copies)
        return Branches(1, ())

    monkeypatch.setattr("cimrobust.onnx_io.load_network.resolve_branches", wrong)
    assert run(["rewrite", str(path), "-o", str(target)]) == 70
    assert "at all sizes" in capsys.readouterr().err
    assert not target.exists()


def test_a_loop_without_end_ends_with_the_name_of_its_node(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[N, 4] x) => (float[N, 4] y)
      <int64 n = {4611686018427387904}, float[4, 4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> {
      [l] y = Loop (n, "", x) <body = b (int64 i, bool c, float[N, 4] s) => (bool c2, float[N, 4] s2) { s2 = MatMul(s, w) c2 = Identity(c) }> }"""  # noqa: E501
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    assert run(["inspect", str(path)]) == 4
    assert "node 'l' (Loop)" in capsys.readouterr().err


def test_a_loop_whose_end_depends_on_data_ends_by_the_time_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[N, 4] x) => (float[N, 4] y)
      <float big = {1e30}, float[4, 4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> { m = ReduceSum <keepdims = 0> (x) c0 = Less(m, big)
      [l] y = Loop ("", c0, x) <body = b (int64 i, bool c, float[N, 4] s) => (bool c2, float[N, 4] s2) {
        s2 = MatMul(s, w) q = ReduceSum <keepdims = 0> (s2) c2 = Less(q, big) }> }"""  # noqa: E501
    path, data = tmp_path / "model.onnx", tmp_path / "data.npz"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    np.savez(data, x=np.zeros((8, 4), np.float32), y=np.zeros(8, np.int64))
    arguments = ["--time-limit", "1", "--effort", "quick", "--out", str(tmp_path / "out")]
    assert run(["analyze", str(path), "--data", str(data), *arguments]) == 4
    assert "node 'l' (Loop)" in capsys.readouterr().err
    assert run(["rewrite", str(path), "--time-limit", "1", "-o", str(tmp_path / "c.onnx")]) == 4
    assert not (tmp_path / "c.onnx").exists()


def test_data_must_have_one_size_where_a_branch_depends_on_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[n, m, 4] x, float[m, 2] z) => (float[n, 3] y)
      <int64 i0 = {0}, int64 i1 = {1}, float[4, 3] W = {1,2,3,4,5,6,7,8,9,10,11,12}> {
      s = Shape(x) t = Shape(z) a = Gather(s, i1) b = Gather(t, i0) c = Equal(a, b) p = ReduceMean <axes = [1], keepdims = 0> (x)
      y = If (c) <then_branch = f () => (float[n, 3] u) { u = MatMul(p, W) }, else_branch = g () => (float[n, 3] e) { o = MatMul(p, W) e = Neg(o) }> }"""  # noqa: E501
    path, data = tmp_path / "model.onnx", tmp_path / "data.toml"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    x = np.random.default_rng(0).standard_normal((8, 5, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros(8, np.int64))

    def described(count: int) -> list[str]:
        rows = ", ".join(["[0.0, 0.0]"] * count)
        data.write_text(
            'schema = 1\nfile = "data.npz"\n[[input]]\nname = "x"\narray = "x"\n[[input]]\nname ='
            f' "z"\nvalue = [{rows}]\n[label]\narray = "y"\n'
        )
        return [
            "analyze",
            str(path),
            "--data",
            str(data),
            "--effort",
            "quick",
            "--trials",
            "3",
            "--out",
            str(tmp_path / "out"),
        ]

    assert run(described(4)) == 2
    assert "calls 'm' must have one size" in capsys.readouterr().err
    assert run(described(5)) == 0
