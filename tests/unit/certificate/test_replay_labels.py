"""Certificates whose labels are another network's decisions: what they say of it, and how they are
replayed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cimrobust import analyze, replay
from cimrobust.certificate.certificate_files import read_certificate
from cimrobust.errors import UsageError
from cimrobust.files import sha256_of
from tests.unit.training.conftest import MLP, clusters, weights_of_mlp, write_model

DATA = 'schema = 1\nfile = "x.npz"\n[[input]]\nname = "x"\narray = "x"\n[label]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, its teacher, their data, and a certificate of the one by the decisions of the
    other, rare failures included.
    """
    made = tmp_path_factory.mktemp("labels")
    weights = weights_of_mlp(1)
    nearby = {
        name: array + 0.05 * np.sin(np.arange(array.size, dtype=np.float32)).reshape(array.shape)
        for name, array in weights.items()
    }
    for name, values in {
        "teacher": weights,
        "model": nearby,
        "stranger": weights_of_mlp(2),
    }.items():
        write_model(made / f"{name}.onnx", MLP, values)
    x, y = clusters(60, 3)
    np.savez(made / "x.npz", x=x, y=y)
    (made / "d.toml").write_text(DATA + "self = true\n")
    (made / "labelled.toml").write_text(DATA + 'array = "y"\n')
    analyze(
        made / "model.onnx",
        out=made / "out",
        labels_of=made / "teacher.onnx",
        **settings(made),
        rare_below=0.8,
        rare_budget=300,
    )
    return made


def settings(folder: Path) -> dict:
    return {
        "data": folder / "d.toml",
        "effort": "quick",
        "trials": 5,
        "workers": 1,
        "tolerance": 0.05,
    }


def checked(folder: Path, **given) -> dict:
    return {check.id: check for check in replay(folder / "out", data=folder / "d.toml", **given)}


def test_certificate_names_the_network_that_made_the_labels(folder):
    made = read_certificate(folder / "out")
    assert made.data.label_source == "model"
    assert made.data.labels_of == {"teacher.onnx": sha256_of(folder / "teacher.onnx")}
    assert any("made the labels (teacher.onnx)" in row.text for row in made.assumptions)
    page = (folder / "out" / "certificate.html").read_text()
    assert (
        f"<code>teacher.onnx</code> sha256 <code>{sha256_of(folder / 'teacher.onnx')}</code>"
        in page
    )


def test_replay_says_which_network_is_missing(folder):
    found = checked(folder, model=folder / "model.onnx")
    named = f"teacher.onnx (sha256 {sha256_of(folder / 'teacher.onnx')[:16]}...)"
    for name in ("labels_hash", "worst_found", "most_probable_score"):
        assert found[name].held is None
        assert named in found[name].detail or name == "most_probable_score"
        assert "--labels-of" in found[name].detail


def test_replay_with_that_network_derives_every_score_again(folder):
    found = checked(folder, model=folder / "model.onnx", labels_of=folder / "teacher.onnx")
    assert {name for name, check in found.items() if not check.held} == {
        "second_search",
        "rerun",
    }  # nobody asked for them
    assert {"labels_hash", "worst_found", "clean", "most_probable_score"} <= set(found)


def test_scores_without_the_certified_network_need_the_teacher_alone(folder):
    found = checked(folder, labels_of=folder / "teacher.onnx")
    assert found["worst_found"].held is True
    assert found["clean"].held is None


def test_another_network_breaks_the_claim(folder):
    found = checked(folder, model=folder / "model.onnx", labels_of=folder / "stranger.onnx")
    assert found["labels_hash"].held is False
    assert found["clean"].held is False


def test_labels_of_the_data_do_not_take_the_place_of_the_decisions(folder):
    found = {
        check.id: check
        for check in replay(
            folder / "out",
            model=folder / "model.onnx",
            data=folder / "labelled.toml",
            labels_of=folder / "teacher.onnx",
        )
    }
    assert found["clean"].held is True


def test_network_that_made_no_labels_is_said_to_be_unused(folder):
    analyze(folder / "model.onnx", out=folder / "alone", **settings(folder))
    assert read_certificate(folder / "alone").data.labels_of is None
    found = {
        check.id: check
        for check in replay(
            folder / "alone",
            model=folder / "model.onnx",
            data=folder / "d.toml",
            labels_of=folder / "teacher.onnx",
        )
    }
    assert found["labels_hash"].held is None
    assert "not used" in found["labels_hash"].detail
    assert found["worst_found"].held is True


def test_data_with_labels_refuse_those_of_another_network(folder, tmp_path):
    with pytest.raises(UsageError, match=r"data must have no labels .*--labels-of"):
        analyze(
            folder / "model.onnx",
            out=tmp_path,
            labels_of=folder / "teacher.onnx",
            **{**settings(folder), "data": folder / "labelled.toml"},
        )
