"""Thirty malformed inputs through the command line: exit code 2 or 5, one line that names file and
place, nothing written.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cimrobust.cli.main import run

PROFILE = 'schema = 1\nname = "p"\n[device]\ntolerance = 0.03\nsigma = 0.01\n'
DESCRIPTION = 'schema = 1\nfile = "d.npz"\n[[input]]\nname = "x"\narray = "x"\n'
POLICY = "[require]\nclean_accuracy = 0.5\n"


def good_model() -> onnx.ModelProto:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="layer")]
    weights = [
        numpy_helper.from_array(np.eye(4, 3, dtype=np.float32), "w"),
        numpy_helper.from_array(np.zeros(3, np.float32), "b"),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 4), ("y", 3))
    )
    return helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def write_good(folder: Path) -> None:
    (folder / "m.onnx").write_bytes(good_model().SerializeToString())
    np.savez(folder / "d.npz", x=np.zeros((4, 4), np.float32), y=np.zeros(4, np.int64))
    for name, text in (("d.toml", DESCRIPTION), ("p.toml", PROFILE), ("policy.toml", POLICY)):
        (folder / name).write_text(text)


def changed_model(change):
    def write(folder: Path) -> None:
        model = good_model()
        change(model)
        (folder / "m.onnx").write_bytes(model.SerializeToString())

    return write


def external(location: str, **more: str):
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node.extend(
        [
            helper.make_node("Relu", ["q"], ["p"], name="one"),
            helper.make_node("Relu", ["p"], ["q"], name="two"),
        ]
    )
    model.graph.node[0].input[0] = "p"


def truncated(folder: Path) -> None:
    content = (folder / "m.onnx").read_bytes()
    (folder / "m.onnx").write_bytes(content[: len(content) * 2 // 3])


def hard_linked(folder: Path) -> None:
    (folder / "secret.bin").write_bytes(np.eye(4, 3, dtype=np.float32).tobytes())
    os.link(folder / "secret.bin", folder / "w.bin")
    changed_model(external("w.bin", offset="0", length="48"))(folder)


def text(name: str, content: str):
    return lambda folder: (folder / name).write_text(content)


def arrays(**values):
    return lambda folder: np.savez(folder / "d.npz", **values)


X, Y = np.zeros((4, 4), np.float32), np.zeros(4, np.int64)
MODELS = {
    "model: empty": (lambda folder: (folder / "m.onnx").write_bytes(b""), 5, "m.onnx"),
    "model: text": (text("m.onnx", "hello, I am not a model"), 5, "m.onnx"),
    "model: truncated": (truncated, 5, "m.onnx"),
    "model: cycle": (changed_model(cycle), 5, "m.onnx"),
    "model: missing tensor": (changed_model(lambda m: m.graph.initializer.pop()), 5, "'b'"),
    "model: lying shape": (
        changed_model(lambda m: m.graph.initializer[0].dims.__setitem__(0, 400)),
        5,
        "'w'",
    ),
    "model: negative shape": (
        changed_model(lambda m: m.graph.initializer[0].dims.__setitem__(0, -4)),
        5,
        "'w'",
    ),
    "model: twice the same name": (
        changed_model(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
        5,
        "'w'",
    ),
    "model: NaN weight": (
        changed_model(
            lambda m: m.graph.initializer[1].CopyFrom(
                numpy_helper.from_array(np.full(3, np.nan, np.float32), "b")
            )
        ),
        5,
        "'b'",
    ),
    "model: unknown operator": (
        changed_model(lambda m: setattr(m.graph.node[0], "op_type", "Gemmm")),
        5,
        "Gemmm",
    ),
    "model: external data outside": (changed_model(external("../secret.bin")), 5, "secret.bin"),
    "model: external data absolute": (changed_model(external("/etc/passwd")), 5, "passwd"),
    "model: external data missing": (changed_model(external("none.bin")), 5, "none.bin"),
    "model: hard link": (hard_linked, 5, "w.bin"),
    "model: missing": (lambda folder: (folder / "m.onnx").unlink(), 2, "m.onnx"),
}
OTHERS = {
    "data: not an archive": (text("d.npz", "x"), 5, "d.npz"),
    "data: objects": (arrays(x=np.array([{}] * 4, dtype=object), y=Y), 5, "'x'"),
    "data: fewer labels": (arrays(x=X, y=Y[:2]), 2, "labels"),
    "data: label out of range": (arrays(x=X, y=Y + 7), 2, "got 7"),
    "data: wrong shape": (arrays(x=np.zeros((4, 9), np.float32), y=Y), 2, "'x'"),
    "data: NaN": (arrays(x=X * np.nan, y=Y), 2, "finite"),
    "description: unknown key": (text("d.toml", DESCRIPTION + "ztep = 1\n"), 2, "ztep"),
    "description: unknown output": (
        text("d.toml", DESCRIPTION + '[decision]\noutput = "z"\n'),
        2,
        "'z'",
    ),
    "description: not TOML": (text("d.toml", "schema ="), 2, "d.toml"),
    "profile: unknown key": (text("p.toml", PROFILE + "sigmma = 1\n"), 2, "sigma"),
    "profile: out of range": (text("p.toml", PROFILE.replace("0.03", "30")), 2, "device.tolerance"),
    "profile: missing table": (text("p.toml", 'schema = 1\nname = "p"\n'), 2, "device"),
    "policy: unknown requirement": (text("policy.toml", POLICY + "wurst = 1\n"), 2, "wurst"),
    "policy: wrong type": (text("policy.toml", '[require]\neffort = "all"\n'), 2, "effort"),
    "policy: not TOML": (text("policy.toml", "[require"), 2, "policy.toml"),
}


def arguments(folder: Path) -> list[str]:
    files = {"--data": "d.toml", "--device": "p.toml", "--policy": "policy.toml"}
    named = [part for option, name in files.items() for part in (option, str(folder / name))]
    return [
        "analyze",
        str(folder / "m.onnx"),
        *named,
        "--out",
        str(folder / "out"),
        "--effort",
        "quick",
        "--trials",
        "3",
    ]


def test_the_unchanged_input_is_accepted(tmp_path):
    write_good(tmp_path)
    assert run(arguments(tmp_path)) == 0
    assert (tmp_path / "out" / "certificate.json").exists()


@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_malformed_input(name, tmp_path, capsys):
    write_good(tmp_path)
    write, code, place = {**MODELS, **OTHERS}[name]
    write(tmp_path)
    assert run(arguments(tmp_path)) == code
    errors = capsys.readouterr().err
    assert place in errors
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not written & {
        "certificate.json",
        "certificate.html",
        "trials.parquet",
        "worst_case.onnx",
        "deviations.safetensors",
    }


def test_an_accelerator_that_is_not_there_is_refused_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_good(tmp_path)
    assert run([*arguments(tmp_path), "--device-type", "cuda"]) == 2
    assert "device type must be usable here, got 'cuda'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
