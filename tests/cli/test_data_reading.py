"""Data that could be read in several ways, from the command line: read rightly, or refused with the
sentence that names the key.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import numpy_helper, parser
from PIL import Image
from ruamel.yaml import YAML

from cimrobust.certificate.policy import read_policy
from cimrobust.certificate.policy_draft import policy_draft
from cimrobust.cli.main import run

GENERATOR = np.random.default_rng(0)
HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
X = GENERATOR.normal(size=(48, 8)).astype(np.float32)
W = GENERATOR.normal(size=(8, 4)).astype(np.float32)
TOKENS = GENERATOR.normal(size=(24, 6, 8)).astype(np.float32)
PLAIN = "(float[N, 8] x) => (float[N, 4] y) { y = MatMul(x, w) }"
TOKEN = "(float[N, 6, 8] x) => (float[N, 6, 4] y) { y = MatMul(x, w) }"


def model(folder: Path, text: str, **weights: np.ndarray) -> Path:
    made = parser.parse_model(HEAD + text)
    made.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in ({"w": W} | weights).items()
    )
    onnx.save(made, folder / "model.onnx")
    return folder / "model.onnx"


def described(folder: Path, more: str = "", **arrays: np.ndarray) -> Path:
    np.savez(folder / "data.npz", **arrays)
    (folder / "data.toml").write_text(
        'schema = 1\nfile = "data.npz"\n[[input]]\narray = "x"\n' + more
    )
    return folder / "data.toml"


def analyze(folder: Path, network: Path, data: Path) -> int:
    return run(
        [
            "analyze",
            str(network),
            "--data",
            str(data),
            "--effort",
            "quick",
            "--trials",
            "5",
            "--workers",
            "1",
            "--out",
            str(folder / "out"),
        ]
    )


def certificate(folder: Path) -> dict:
    return json.loads((folder / "out" / "certificate.json").read_text())


def replayed(folder: Path, network: Path, data: Path, capsys) -> tuple[int, list[dict]]:
    capsys.readouterr()
    code = run(
        ["replay", str(folder / "out"), "--data", str(data), "--model", str(network), "--json"]
    )
    return code, json.loads(capsys.readouterr().out)


SIGMOID = "(float[N, 8] x) => (float[N, 4] y) { z = MatMul(x, w) y = Sigmoid(z) }"


def test_several_labels_a_sample_are_refused_and_read_by_thresholds(tmp_path, capsys):
    network, labels = model(tmp_path, SIGMOID), (X @ W > 0).astype(int)
    assert analyze(tmp_path, network, described(tmp_path, x=X, y=labels)) == 2
    assert 'read = "threshold"' in capsys.readouterr().err
    data = described(
        tmp_path, '[decision]\nread = "threshold"\nvalue = [0.5, 0.5, 0.5, 0.5]\n', x=X, y=labels
    )
    assert analyze(tmp_path, network, data) == 0
    made = certificate(tmp_path)
    assert made["clean"]["score"] == 1.0
    assert made["clean"]["samples"] == 192
    assert made["data"]["decision"]["threshold"] == [0.5, 0.5, 0.5, 0.5]
    assert replayed(tmp_path, network, data, capsys)[0] == 0


def test_own_decisions_of_tokens_need_the_axis(tmp_path, capsys):
    network = model(tmp_path, TOKEN)
    assert analyze(tmp_path, network, described(tmp_path, "[label]\nself = true\n", x=TOKENS)) == 2
    assert "[decision] axis" in capsys.readouterr().err
    data = described(tmp_path, "[label]\nself = true\n[decision]\naxis = 2\n", x=TOKENS)
    assert analyze(tmp_path, network, data) == 0
    made = certificate(tmp_path)
    assert (made["clean"]["samples"], len(made["clean"]["per_class"])) == (144, 4)
    assert replayed(tmp_path, network, data, capsys)[0] == 0


def test_padded_tokens_are_counted_nowhere_and_replayed(tmp_path, capsys):
    network = model(tmp_path, TOKEN)
    labels = (TOKENS @ W).argmax(axis=-1)
    labels[GENERATOR.random(labels.shape) < 0.3] = -100
    labels[:, 0] = 1
    labels[3] = -100  # a sample without any
    data = described(tmp_path, '[label]\narray = "y"\nignore = -100\n', x=TOKENS, y=labels)
    assert analyze(tmp_path, network, data) == 0
    made = certificate(tmp_path)
    kept = np.delete(labels, 3, axis=0)
    right = int(((np.delete(TOKENS, 3, axis=0) @ W).argmax(axis=-1) == kept).sum())
    assert (made["clean"]["correct"], made["clean"]["samples"]) == (
        right,
        int((kept != -100).sum()),
    )
    assert (made["data"]["used"], made["data"]["available"]) == (23, 24)
    assert made["data"]["labels"] == {
        "classes": None,
        "first": None,
        "ignore": [-100],
        "ignored_samples": 1,
        "ignored_decisions": int((kept == -100).sum()),
    }
    assert made["evaluation_set"]["most_decisions"] == 6
    assert sum(sum(row) for row in made["worst_found"]["confusion"]) == made["clean"]["samples"]
    assert replayed(tmp_path, network, data, capsys)[0] == 0
    without = described(tmp_path, '[label]\narray = "y"\nignore = [-100, 3]\n', x=TOKENS, y=labels)
    code, checks = replayed(tmp_path, network, without, capsys)
    assert code != 0
    assert "ignore" in next(check["detail"] for check in checks if check["id"] == "data_reading")


def test_the_label_among_the_best_is_certified_and_replayed(tmp_path, capsys):
    network = model(tmp_path, PLAIN)
    labels = (X @ W).argsort(axis=1)[:, -2]
    data = described(tmp_path, '[decision]\nread = "topk"\nk = 2\n', x=X, y=labels)
    assert analyze(tmp_path, network, data) == 0
    made = certificate(tmp_path)
    assert made["clean"]["score"] == 1.0
    assert made["data"]["decision"]["k"] == 2
    assert 0 < made["certified"]["score"] <= made["worst_found"]["score"] < 1
    assert replayed(tmp_path, network, data, capsys)[0] == 0


def test_masked_classes_are_never_chosen(tmp_path):
    network = model(
        tmp_path,
        "(float[N, 8] x) => (float[N, 4] y) { z = MatMul(x, w) y = Add(z, m) }",
        m=np.array([0, 0, 0, -np.inf], np.float32),
    )
    labels = (X @ W)[:, :3].argmax(axis=1)
    np.savez(tmp_path / "d.npz", x=X, y=labels)
    assert analyze(tmp_path, network, tmp_path / "d.npz") == 0
    made = certificate(tmp_path)
    assert made["clean"]["score"] == 1.0
    assert made["worst_found"]["score"] < 1.0
    assert made["data"]["broken"] == 0


def test_outputs_that_are_nan_are_refused_or_counted_everywhere(tmp_path, capsys):
    network = model(tmp_path, "(float[N, 8] x) => (float[N, 4] y) { z = MatMul(x, w) y = Log(z) }")
    is_safe = np.sort(X @ W, axis=1)[:, 0] > 0
    all_broken, labels = X[~is_safe], np.arange(48) % 4
    np.savez(tmp_path / "d.npz", x=all_broken, y=labels[~is_safe])
    assert analyze(tmp_path, network, tmp_path / "d.npz") == 4
    assert f"NaN ({len(all_broken)}) in all {len(all_broken)} decisions" in capsys.readouterr().err
    good = (np.linalg.pinv(W.T) @ GENERATOR.uniform(1, 3, size=(4, 10))).T.astype(np.float32)
    np.savez(tmp_path / "d.npz", x=np.concatenate([all_broken[:6], good]), y=np.arange(16) % 4)
    assert analyze(tmp_path, network, tmp_path / "d.npz") == 0
    sentence = "6 of 16 decisions of the model file itself, without any deviation, are NaN (6)"
    assert sentence in " ".join(capsys.readouterr().out.split())
    made = certificate(tmp_path)
    assert any(sentence in warning for warning in made["warnings"])
    assert made["data"]["broken"] == 6
    assert sentence in (tmp_path / "out" / "certificate.html").read_text()


NMS = """(float[1, 8] x) => (int64[k, 3] y) <int64[3] b = {1, 8, 4}, int64[3] t = {1, 1, 8}, int64 mx = {5}, float iou = {0.5}, float st = {0}> {
  z = MatMul(x, v) c = Reshape(z, b) s = Reshape(x, t) y = NonMaxSuppression(c, s, mx, iou, st) }"""  # noqa: E501


def test_a_number_of_boxes_that_depends_on_the_sample_is_no_decision(tmp_path, capsys):
    network = model(tmp_path, NMS, v=GENERATOR.normal(size=(8, 32)).astype(np.float32))
    np.savez(tmp_path / "d.npz", x=X, y=np.zeros(48, int))
    assert analyze(tmp_path, network, tmp_path / "d.npz") == 2
    assert "another shape for every sample" in capsys.readouterr().err


def test_random_operators_are_refused_by_name(tmp_path, capsys):
    network = model(
        tmp_path,
        "(float[N, 8] x) => (float[N, 4] y) { z = MatMul(x, w) r = RandomNormalLike(z) y = Add(z,"
        " r) }",
    )
    np.savez(tmp_path / "d.npz", x=X, y=(X @ W).argmax(axis=1))
    assert analyze(tmp_path, network, tmp_path / "d.npz") == 4
    assert "random" in capsys.readouterr().err


def stored_sets(folder: Path, count: int = 4) -> Path:
    for index in range(count):
        one = folder / "td" / f"test_data_set_{index}"
        one.mkdir(parents=True)
        x = GENERATOR.normal(size=(1, 2, 4, 5)).astype(np.float32)
        y = np.einsum("oi,bihw->bohw", W[:3, :2], x)
        for name, array in (("input_0", x), ("output_0", y.astype(np.float32))):
            (one / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
    return folder / "td"


DENSE = "(float[1, 2, 4, 5] x) => (float[1, 3, 4, 5] y) { y = Conv(x, k) }"


def test_stored_outputs_of_several_axes_are_read_along_that_of_the_last_layer(tmp_path, capsys):
    network, data = (
        model(tmp_path, DENSE, k=W[:3, :2].reshape(3, 2, 1, 1).copy()),
        stored_sets(tmp_path),
    )
    assert analyze(tmp_path, network, data) == 0
    made = certificate(tmp_path)
    assert (made["clean"]["score"], made["clean"]["samples"], len(made["clean"]["per_class"])) == (
        1.0,
        80,
        3,
    )
    assert made["data"]["decision"]["axis_reason"] == "Conv 'y'"
    assert any("axis 1" in warning for warning in made["warnings"])
    assert replayed(tmp_path, network, data, capsys)[0] == 0


def test_stored_outputs_whose_axis_nothing_shows_are_refused_and_described(tmp_path, capsys):
    text = (
        "(float[1, 2, 4, 5] x) => (float[1, 3, 4, 5] y) { a = Conv(x, k) b = Relu(a) c = Mul(a, b)"
        " y = Sub(c, b) }"
    )
    network, data = (
        model(tmp_path, text, k=W[:3, :2].reshape(3, 2, 1, 1).copy()),
        stored_sets(tmp_path),
    )
    assert analyze(tmp_path, network, data) == 2
    assert "[decision] axis" in capsys.readouterr().err
    (tmp_path / "data.toml").write_text(
        'schema = 1\nfile = "td"\n[[input]]\n[decision]\naxis = 1\n'
    )
    assert run(["inspect", str(network), "--data", str(tmp_path / "data.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["decisions"] == 80


def test_inspect_shows_how_data_are_understood(tmp_path, capsys):
    network = model(tmp_path, PLAIN)
    names = np.array(["ant", "bee", "cow", "doe"])
    data = described(
        tmp_path,
        '[label]\narray = "y"\nclasses = ["ant", "bee", "cow", "doe"]\n',
        x=X,
        y=names[(X @ W).argmax(axis=1)],
    )
    assert run(["inspect", str(network), "--data", str(data), "--limit", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["data"]
    assert found["samples"] == {"used": 40, "available": 48, "ignored": 0}
    assert (found["decisions"], found["decisions_a_sample"], found["classes"]) == (40, 1, 4)
    assert sum(row["count"] for row in found["histogram"]) == 40
    assert [row["label"] for row in found["histogram"]] == names.tolist()
    assert found["clean"] == {"metric": "accuracy", "score": 1.0, "correct": 40}
    best = np.sort((X @ W), axis=1)
    for row in found["rows"]:
        assert row["label"] == row["decision"] == names[(X @ W)[row["sample"]].argmax()]
        assert row["margin"] == pytest.approx(
            float(best[row["sample"], -1] - best[row["sample"], -2]), rel=1e-4
        )
    assert len(found["rows"]) == 5
    assert run(["inspect", str(network), "--data", str(data)]) == 0
    text = capsys.readouterr().out
    assert "48 used of 48" in text
    assert "First 5 decisions" in text


def _init(folder: Path, network: Path, data: Path, capsys) -> dict:
    """Write a description, check that it is read, and return its tables and how it was understood."""  # noqa: E501
    out = folder / "made.toml"
    assert run(["init", str(network), str(data), "--out", str(out), "--force"]) == 0
    capsys.readouterr()
    assert run(["inspect", str(network), "--data", str(out), "--json"]) == 0
    return {
        "file": tomllib.loads(out.read_text()),
        "text": out.read_text(),
        **json.loads(capsys.readouterr().out)["data"],
    }


@pytest.mark.parametrize(
    ("labels", "key", "value"),
    [
        (lambda right: right, "array", "y"),
        (lambda right: right + 1, "first", 1),
        (lambda right: np.where(np.arange(48) < 4, 255, right), "ignore", 255),
        (lambda right: np.array(["a", "b", "c", "d"])[right], "classes", ["a", "b", "c", "d"]),
        (lambda right: np.array([b"a", b"b", b"c", b"d"])[right], "classes", ["a", "b", "c", "d"]),
        (lambda right: right - 1, "classes", [-1, 0, 1, 2]),
        (lambda right: 10 * right, "classes", [0, 10, 20, 30]),
        (lambda right: np.eye(4, dtype=int)[right], "array", "y"),
    ],
)
def test_init_finds_how_labels_are_coded(tmp_path, capsys, labels, key, value):
    network = model(tmp_path, PLAIN)
    np.savez(tmp_path / "d.npz", x=X, y=labels((X @ W).argmax(axis=1)))
    found = _init(tmp_path, network, tmp_path / "d.npz", capsys)
    assert found["clean"]["score"] == 1.0
    assert found["file"]["label"][key] == value


def test_init_leaves_open_how_shares_of_classes_are_read(tmp_path, capsys):
    scores = np.exp(X @ W)
    np.savez(tmp_path / "d.npz", x=X, y=scores / scores.sum(axis=1, keepdims=True))
    assert run(["init", str(model(tmp_path, PLAIN)), str(tmp_path / "d.npz"), "--out", "-"]) == 0
    told = capsys.readouterr()
    text = " ".join(line.removeprefix("# ") for line in told.out.splitlines())
    assert "labels must be classes or numbers, got rows that sum to 1" in text
    assert "open: labels in the shape of the output must be one-hot" in told.err
    np.savez(tmp_path / "d.npz", x=X, y=X @ W)
    assert _init(tmp_path, model(tmp_path, PLAIN), tmp_path / "d.npz", capsys)["clean"] == {
        "metric": "rmse",
        "score": pytest.approx(0.0, abs=1e-5),
        "correct": None,
    }


@pytest.mark.parametrize("turned", [False, True])
def test_init_turns_pictures_and_rows_of_a_graph_that_says_no_sizes(tmp_path, capsys, turned):
    pictures = GENERATOR.normal(size=(60, 3, 4, 4)).astype(np.float32)
    kernel = GENERATOR.normal(size=(3, 3, 3, 3)).astype(np.float32)
    body = "{ c = Conv(x, k) r = Relu(c) p = GlobalMaxPool(r) y = Flatten(p) }"
    free = model(tmp_path, f"(float[N, A, B, C] x) => (float[N, 3] y) {body}", k=kernel)
    labels = onnxruntime.InferenceSession(free).run(None, {"x": pictures})[0].argmax(axis=1)
    stored = pictures.transpose(0, 2, 3, 1) if turned else pictures
    np.savez(tmp_path / "d.npz", x=stored, y=labels)
    steps = [{"op": "transpose", "perm": [0, 3, 1, 2]}] if turned else []
    found = _init(tmp_path, free, tmp_path / "d.npz", capsys)
    assert (found["file"]["input"][0].get("steps", []), found["clean"]["score"]) == (steps, 1.0)
    # Of rows, both orders fit a graph that says its sizes; the labels tell.
    sized = model(tmp_path, f"(float[N, 3, 4, 4] x) => (float[N, 3] y) {body}", k=kernel)
    np.savez(tmp_path / "d.npz", x=stored.reshape(60, -1), y=labels)
    found = _init(tmp_path, sized, tmp_path / "d.npz", capsys)
    shape = {"op": "reshape", "shape": [4, 4, 3] if turned else [3, 4, 4]}
    assert (found["file"]["input"][0]["steps"], found["clean"]["score"]) == ([shape, *steps], 1.0)
    assert ("this order of channels" in found["text"]) == turned


@pytest.mark.parametrize(("colours", "op"), [(3, "colour"), (1, "grey")])
def test_init_makes_pictures_of_the_colours_that_the_graph_takes(tmp_path, capsys, colours, op):
    network = model(
        tmp_path,
        f"(float[N, {colours}, 4, 4] x) => (float[N, 2] y) {{ f = Flatten(x) y = MatMul(f, v) }}",
        v=GENERATOR.normal(size=(16 * colours, 2)).astype(np.float32),
    )
    for name, shade in (("dark", 30), ("light", 220)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(6):
            picture = Image.new("L", (8, 6), shade - index)
            (picture if colours == 3 else picture.convert("RGB")).save(
                tmp_path / "pictures" / name / f"{index}.png"
            )
    found = _init(tmp_path, network, tmp_path / "pictures", capsys)
    assert op in [step["op"] for step in found["file"]["input"][0]["steps"]]
    assert found["samples"]["used"] == 12


def test_init_says_whose_decisions_the_labels_are_and_which_column_it_cannot_read(tmp_path, capsys):
    network = model(tmp_path, PLAIN)
    np.savez(tmp_path / "d.npz", x=X)
    assert run(["init", str(network), str(tmp_path / "d.npz"), "--out", "-"]) == 0
    assert (
        "1.0000 on the first 48 samples, of its own decisions: no labels" in capsys.readouterr().err
    )
    times = pa.array((X @ W).argmax(axis=1)).cast(pa.timestamp("ms"))
    pq.write_table(pa.table({"x": list(X), "y": times}), tmp_path / "d.parquet")
    assert run(["init", str(network), str(tmp_path / "d.parquet"), "--out", "-"]) == 0
    told = capsys.readouterr()
    assert "open: column 'y' may hold the labels and is not read" in told.err
    assert "Columns of kinds that are not read: 'y' (timestamp[ms])." in told.out


def test_samples_with_channels_in_another_place_are_refused_with_the_step(tmp_path, capsys):
    network = model(
        tmp_path,
        "(float[N, 3, 4, 4] x) => (float[N, 2] y) { f = Flatten(x) y = MatMul(f, v) }",
        v=GENERATOR.normal(size=(48, 2)).astype(np.float32),
    )
    np.savez(tmp_path / "d.npz", x=np.zeros((12, 4, 4, 3), np.float32), y=np.zeros(12, int))
    assert run(["inspect", str(network), "--data", str(tmp_path / "d.npz")]) == 2
    assert 'add the step { op = "transpose", perm = [0, 3, 1, 2] }' in capsys.readouterr().err


def test_init_takes_an_array_for_the_labels_of_the_output_that_it_is_named_like(tmp_path, capsys):
    text = (
        "(float[N, 8] x) => (float[N, 2] age, float[N, 4] race)"
        " { age = MatMul(x, v)  race = MatMul(x, w) }"
    )
    network = model(tmp_path, text, v=W[:, :2])
    np.savez(tmp_path / "d.npz", x=X, race=(X @ W).argmax(1))
    assert run(["init", str(network), str(tmp_path / "d.npz"), "--out", "-"]) == 0
    found = tomllib.loads(capsys.readouterr().out)
    assert (found["label"]["array"], found["decision"]["output"]) == ("race", "race")


def test_init_names_what_it_can_describe(tmp_path, capsys):
    (tmp_path / "d.xlsx").write_bytes(b"rows")
    assert run(["init", str(model(tmp_path, PLAIN)), str(tmp_path / "d.xlsx")]) == 2
    assert (
        "data to describe must be .npz, .csv, .parquet, .arrow, .feather, shards"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("labels", [np.zeros(30, int), np.zeros((1, 48), int), np.int64(1)])
def test_init_of_other_numbers_of_labels_than_samples_says_so(tmp_path, capsys, labels):
    np.savez(tmp_path / "d.npz", x=X, y=labels)
    assert run(["init", str(model(tmp_path, PLAIN)), str(tmp_path / "d.npz"), "--out", "-"]) == 0
    told = capsys.readouterr()
    assert "labels must be as many as samples, got shape" in told.out
    assert tomllib.loads(told.out)["label"]["array"] == "y"


def test_init_names_the_description_and_no_passing_file(tmp_path, capsys):
    np.savez(tmp_path / "d.npz", x=np.where(X > 2, np.nan, X), y=np.zeros(48, int))
    assert run(["init", str(model(tmp_path, PLAIN)), str(tmp_path / "d.npz"), "--out", "-"]) == 0
    assert "got NaN or infinity (data.toml, input 'x')" in capsys.readouterr().out


def test_init_refuses_a_network_that_takes_text(tmp_path, capsys):
    network = tmp_path / "text.onnx"
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml": 2]> g (string[N, 2] t) =>'
        " (float[N, 2] y) { y = ai.onnx.ml.LabelEncoder"
        ' <keys_strings = ["a", "b"], values_floats = [0.5, 1.5]> (t) }'
    )
    onnx.save(graph, network)
    assert run(["init", str(network), "--out", "-"]) == 4
    assert "graph inputs must take numbers, got text in ['t']" in capsys.readouterr().err


def test_init_finds_the_axis_and_says_what_it_could_not_tell(tmp_path, capsys):
    network = model(tmp_path, "(float[N, 4, 8] x) => (float[N, 4, 4] y) { y = MatMul(x, w) }")
    np.savez(tmp_path / "d.npz", x=TOKENS[:, :4], y=(TOKENS[:, :4] @ W).argmax(axis=-1))
    found = _init(tmp_path, network, tmp_path / "d.npz", capsys)
    assert (found["file"]["decision"]["axis"], found["clean"]["score"]) == (2, 1.0)
    assert "Several axes may hold the classes" in found["text"]


def test_init_finds_steps_thresholds_and_values(tmp_path, capsys):
    network = model(
        tmp_path,
        "(float[N, 8] x) => (float[N, 1] y) { z = MatMul(x, u) y = Sigmoid(z) }",
        u=W[:, :1].copy(),
    )
    np.savez(tmp_path / "d.npz", images=X.reshape(48, 2, 4), target=(X @ W[:, 0] > 0).astype(int))
    found = _init(tmp_path, network, tmp_path / "d.npz", capsys)
    assert found["file"]["input"][0]["steps"] == [{"op": "reshape", "shape": [8]}]
    assert (
        found["file"]["decision"]["read"],
        found["file"]["decision"]["value"],
        found["clean"]["score"],
    ) == ("threshold", 0.5, 1.0)
    np.savez(tmp_path / "d.npz", x=X, y=np.linspace(0, 1, 48).astype(np.float32))
    assert (
        _init(tmp_path, network, tmp_path / "d.npz", capsys)["file"]["decision"]["read"] == "value"
    )


def test_init_describes_tables_test_data_and_images(tmp_path, capsys):
    network = model(tmp_path, PLAIN)
    rows = [
        ",".join([*(f"{value:.6f}" for value in row), str(int(label))])
        for row, label in zip(X, (X @ W).argmax(axis=1), strict=True)
    ]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,c,d,e,f,g,h,label", *rows]) + "\n")
    assert _init(tmp_path, network, tmp_path / "d.csv", capsys)["clean"]["score"] == 1.0
    dense = model(tmp_path, DENSE, k=W[:3, :2].reshape(3, 2, 1, 1).copy())
    assert _init(tmp_path, dense, stored_sets(tmp_path), capsys)["decisions"] == 80
    coloured = model(
        tmp_path,
        "(float[N, 3, 4, 4] x) => (float[N, 2] y) { f = Flatten(x) y = MatMul(f, v) }",
        v=GENERATOR.normal(size=(48, 2)).astype(np.float32),
    )
    for name, shade in (("dark", 30), ("light", 220)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (8, 6), (shade, shade - index, shade)).save(
                tmp_path / "pictures" / name / f"{index}.png"
            )
    found = _init(tmp_path, coloured, tmp_path / "pictures", capsys)
    assert found["samples"]["used"] == 12
    assert {step["op"] for step in found["file"]["input"][0]["steps"]} >= {"resize", "transpose"}


def test_init_without_data_and_init_that_would_replace_a_file(tmp_path, capsys):
    network = model(tmp_path, PLAIN)
    assert run(["init", str(network), "--out", "-"]) == 0
    captured = capsys.readouterr()
    tables = tomllib.loads(captured.out)
    assert tables["input"][0]["name"] == "x"
    assert "no data were given" in captured.err
    (tmp_path / "there.toml").write_text("mine")
    assert run(["init", str(network), "--out", str(tmp_path / "there.toml")]) == 2
    assert "must not replace a file" in capsys.readouterr().err
    assert run(["init", str(network), "--out", str(tmp_path / "none" / "d.toml")]) == 2
    assert "description must go into a folder that is there, got" in capsys.readouterr().err
    assert (tmp_path / "there.toml").read_text() == "mine"
    assert run(["init", str(network), str(tmp_path / "none.npz"), "--out", "-"]) == 2


def test_init_writes_a_policy_that_the_gate_reads(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = model(tmp_path, PLAIN)
    np.savez("d.npz", x=X, y=np.zeros(48, int))
    given = ["init", str(network), "d.npz", "--policy", "policy.toml"]
    assert run(given) == 0
    captured = capsys.readouterr()
    clean = float(re.search(r"clean accuracy +([\d.]+)", captured.out)[1])
    assert captured.err.endswith(f"next: cimrobust analyze {network} --data data.toml --out out\n")
    asked = tomllib.loads((tmp_path / "policy.toml").read_text())["require"]
    assert clean - 0.02 < asked["clean_accuracy"] < clean
    assert clean - 0.06 < asked["worst_found_accuracy"] == asked["kpp"]["accuracy"] < clean - 0.04
    read_policy(tmp_path / "policy.toml")
    assert run([*given, "--out", "other.toml"]) == 2
    assert "policy must not replace a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("runner", "places"),
    [
        (
            "github",
            [".github/workflows/robustness.yml", ".github/actions/cimrobust-gate/action.yml"],
        ),
        ("gitlab", [".gitlab-ci.yml"]),
        ("jenkins", ["Jenkinsfile"]),
    ],
)
def test_init_writes_the_gate_of_a_runner(tmp_path, capsys, monkeypatch, runner, places):
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    network = model(tmp_path, PLAIN).rename('nets/it\'s: a "net".onnx')
    np.savez("d.npz", x=X, y=(X @ W).argmax(axis=1))
    given = ["init", str(network), "d.npz", "--policy", "asked.toml", "--pipeline", runner]
    assert run(given) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[-len(places) :]] == (
        places
    )
    text = Path(places[0]).read_text()
    if runner == "jenkins":
        assert "MODEL = 'nets/it\\'s: a \"net\".onnx'" in text
        assert "POLICY = 'asked.toml'" in text
    else:
        (job,) = (read := YAML(typ="safe", pure=True).load(text)).get("jobs", read).values()
        stated = job.get("variables") or next(
            step["with"] for step in job["steps"] if "cimrobust-gate" in step.get("uses", "")
        )
        stated = {key.lower(): value for key, value in stated.items()}
        assert stated["model"] == network.as_posix()
        assert (stated["data"], stated["policy"]) == ("data.toml", "asked.toml")
    assert run([*given, "--out", "again.toml", "--policy", "again2.toml"]) == 2
    assert "pipeline must not replace a file" in capsys.readouterr().err
    assert not Path("again.toml").exists()


def test_a_pipeline_needs_a_description_and_a_policy(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["init", str(model(tmp_path, PLAIN)), "--pipeline", "gitlab"]) == 2
    assert "a pipeline must name a description and a policy" in capsys.readouterr().err
    assert not Path(".gitlab-ci.yml").exists()


def test_a_policy_to_begin_with_allows_an_error_that_is_larger(tmp_path):
    text = policy_draft(31.9061, metric="rmse", higher_is_better=False, samples=100)
    (tmp_path / "policy.toml").write_text(text)
    asked = tomllib.loads(text)["require"]
    assert (asked["clean_accuracy"], asked["worst_found_accuracy"]) == (32.6, 35.1)
    read_policy(tmp_path / "policy.toml")


def test_init_without_a_score_says_that_there_is_no_policy(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["init", str(model(tmp_path, PLAIN)), "--policy", "policy.toml"]) == 0
    assert "there is no policy" in capsys.readouterr().err
    assert not (tmp_path / "policy.toml").exists()
    more = ["--policy", "policy.toml", "--pipeline", "gitlab", "--force"]
    assert run(["init", str(tmp_path / "model.onnx"), *more]) == 0
    assert "there is no policy and no pipeline" in capsys.readouterr().err
    assert not (tmp_path / ".gitlab-ci.yml").exists()


def test_init_of_a_broken_network_says_so_in_the_file(tmp_path, capsys):
    network = model(
        tmp_path,
        "(float[N, 8] x) => (float[N, 4] y) { z = MatMul(x, w) a = Abs(z) n = Neg(a) y = Log(n) }",
    )
    np.savez(tmp_path / "d.npz", x=X, y=np.zeros(48, int))
    assert (
        run(["init", str(network), str(tmp_path / "d.npz"), "--out", str(tmp_path / "made.toml")])
        == 0
    )
    assert "NaN" in capsys.readouterr().err
    assert (
        "# As it stands: model must give scores that decide" in (tmp_path / "made.toml").read_text()
    )


def test_init_describes_parquet_and_shards(tmp_path, capsys):
    network, labels = model(tmp_path, PLAIN), (X @ W).argmax(axis=1)
    pq.write_table(pa.table({"features": X.tolist(), "label": labels}), tmp_path / "d.parquet")
    found = _init(tmp_path, network, tmp_path / "d.parquet", capsys)
    assert (found["file"]["input"][0]["array"], found["clean"]["score"]) == ("features", 1.0)
    table = {name: X[:, place] for place, name in enumerate("abcdefgh")} | {"label": labels}
    pq.write_table(pa.table(table), tmp_path / "d.parquet")
    found = _init(tmp_path, network, tmp_path / "d.parquet", capsys)
    assert (found["file"]["input"][0]["array"], found["clean"]["score"]) == ("x", 1.0)
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        for number, (row, label) in enumerate(zip(X, labels, strict=True)):
            stream = io.BytesIO()
            np.save(stream, row)
            for ending, content in (("npy", stream.getvalue()), ("cls", str(label).encode())):
                info = tarfile.TarInfo(f"{number:03}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    found = _init(tmp_path, network, tmp_path / "d.tar", capsys)
    assert (found["file"]["label"]["array"], found["clean"]["score"]) == ("y", 1.0)
