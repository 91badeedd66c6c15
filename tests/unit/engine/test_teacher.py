"""Labels by another network: a re-trained network is judged by the one it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cimrobust import analyze
from cimrobust.engine.original_file import run_original
from cimrobust.engine.teacher import labelled_by
from cimrobust.onnx_io.load_network import load_network
from tests.unit.training.conftest import MLP, clusters, dataset, weights_of_mlp, write_model


def test_labels_are_the_decisions_of_the_other_network(tmp_path: Path):
    teacher = load_network(write_model(tmp_path / "teacher.onnx", MLP, weights_of_mlp(1)))
    x, labels = clusters(50, 3)
    found = labelled_by(teacher, dataset(x, None))
    assert (
        found.labels.tolist() == run_original(teacher, {"x": x}, {}, output="y").argmax(1).tolist()
    )
    assert labelled_by(teacher, dataset(x, labels)).labels is labels


def test_constant_network_is_not_right_by_its_own_word(tmp_path: Path):
    constant = {name: 0 * array for name, array in weights_of_mlp().items()} | {
        "w2": np.zeros((16, 4), np.float32)
    }
    constant["w1"][0, 0] = constant["w2"][1, 2] = constant["b1"][1] = 1.0
    write_model(tmp_path / "teacher.onnx", MLP, weights_of_mlp(1))
    model = write_model(tmp_path / "constant.onnx", MLP, constant)
    np.savez(tmp_path / "x.npz", x=clusters(60, 3)[0])
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "x.npz"\n[[input]]\nname = "x"\narray = "x"\n[label]\nself = true\n'
    )
    settings = {
        "data": tmp_path / "d.toml",
        "effort": "quick",
        "trials": 5,
        "workers": 1,
        "tolerance": 0.001,
    }
    alone = analyze(model, out=tmp_path / "alone", **settings).data
    judged = analyze(
        model, out=tmp_path / "judged", labels_of=tmp_path / "teacher.onnx", **settings
    ).data
    assert alone["clean"]["score"] == 1.0
    assert judged["clean"]["score"] < 0.7
