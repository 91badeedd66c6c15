"""Networks in 16 bits: inspected, analysed and replayed as others are."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.cli.main import run

KINDS = {
    "float16": (np.dtype(np.float16), TensorProto.FLOAT16),
    "bfloat16": (np.dtype(ml_dtypes.bfloat16), TensorProto.BFLOAT16),
}
INPUTS, WIDTH, CLASSES = 6, 32, 4


def packed(levels: np.ndarray) -> np.ndarray:
    """Pack integers of 4 bits along the last axis, the first in the lower bits."""
    return (levels[..., 0::2] | levels[..., 1::2] << 4).astype(np.uint8)


def network(form: str, kind: str) -> tuple[onnx.ModelProto, np.ndarray]:
    """Return a network of one form and its samples.

    `plain` multiplies with floats, `attention` has a block of a transformer behind a table of
    words, `int4` the same with integers of 4 bits and one scale for 16 of them.
    """
    rng = np.random.default_rng(7)
    dtype, elem_type = KINDS[kind]
    tensors: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def tensor(name: str, array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(array, name))
        return name

    def add(op: str, *inputs: str, **values: object) -> str:
        made = f"{op.lower()}_{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [made], name=f"node_{made}", **values))
        return made

    def product(x: str, name: str, rows: int, columns: int) -> str:
        if form != "int4":
            weight = rng.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
            return add("MatMul", x, tensor(name, weight.astype(dtype)))
        levels = packed(rng.integers(0, 16, (columns, rows // 16, 16)))
        scales = rng.uniform(0.02, 0.05, (columns, rows // 16)).astype(np.float32)
        stored = tensor(f"{name}.q", levels), tensor(f"{name}.s", scales.astype(dtype))
        return add(
            "MatMulNBits", x, *stored, domain="com.microsoft", K=rows, N=columns, bits=4,
            block_size=16,
        )  # fmt: skip

    if form == "plain":
        x = helper.make_tensor_value_info("x", elem_type, ["N", INPUTS])
        samples = rng.normal(size=(24, INPUTS)).astype(np.float32)
        hidden = add("Relu", product("x", "first", INPUTS, WIDTH))
        last = product(hidden, "last", WIDTH, CLASSES)
    else:
        x = helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 5])
        samples = rng.integers(0, 20, (24, 5))
        words = tensor("words", rng.normal(size=(20, WIDTH)).astype(np.float32).astype(dtype))
        hidden = add("Gather", words, "x")
        query, key, value = (product(hidden, name, WIDTH, WIDTH) for name in "qkv")
        scores = add("MatMul", query, add("Transpose", key, perm=[0, 2, 1]))
        mixed = add("MatMul", add("Softmax", scores, axis=-1), value)
        hidden = add("Add", hidden, product(mixed, "out", WIDTH, WIDTH))
        pooled = add("ReduceMean", hidden, axes=[1], keepdims=0)
        last = product(pooled, "last", WIDTH, CLASSES)
    nodes[-1].output[0] = "y"
    assert last
    graph = helper.make_graph(
        nodes, "net", [x], [helper.make_tensor_value_info("y", elem_type, ["N", CLASSES])], tensors
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8), samples


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("form", ["plain", "attention", "int4"])
def test_a_network_in_16_bits_is_analysed_and_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, kind: str
) -> None:
    model, samples = network(form, kind)
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=samples, y=np.arange(len(samples)) % CLASSES)
    dtype = "int64" if samples.dtype.kind == "i" else ("float16", "float32")[kind == "bfloat16"]
    (tmp_path / "data.toml").write_text(
        f'schema = 1\nfile = "data.npz"\n[[input]]\nname = "x"\narray = "x"\ndtype = "{dtype}"\n'
        '[label]\narray = "y"\n[decision]\noutput = "y"\nread = "argmax"\nmetric = "accuracy"\n'
    )
    network_and_data = [str(tmp_path / "net.onnx"), "--data", str(tmp_path / "data.toml")]
    assert run(["inspect", network_and_data[0], "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert len(layers) == {"plain": 2, "attention": 5, "int4": 5}[form]
    out = tmp_path / "out"
    few = ["--effort", "quick", "--trials", "12", "--workers", "1", "--skip", "effects"]
    assert (
        run(["analyze", *network_and_data, *few, "--diagnostics", "none", "--out", str(out)]) == 0
    )
    certificate = json.loads((out / "certificate.json").read_text())
    assert "got other numbers in" not in json.dumps(certificate["warnings"])
    capsys.readouterr()
    again = ["replay", str(out), "--model", *network_and_data, "--redraw", "3", "--json"]
    assert run(again) == 0
    held = {check["id"]: check["held"] for check in json.loads(capsys.readouterr().out)}
    assert held["redrawn_trials"] is held["worst_found"] is held["layers"] is True
    assert False not in held.values()
