"""`cimrobust retrain` from the command line: what it writes, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from cimrobust.certificate.manifest import manifest_problems, write_manifest
from cimrobust.certificate.models.retrained import Retraining
from cimrobust.certificate.published_schemas import described_schema
from cimrobust.certificate.schema_files import schema_file
from cimrobust.cli.main import run
from cimrobust.cluster.processes import Processes
from cimrobust.files import sha256_of


def arguments(samples: Path, out: Path, *more: str) -> list[str]:
    data = [
        "--data",
        str(samples / "breast_cancer_mlp.toml"),
        "--tolerance",
        "0.1",
        "--effort",
        "quick",
        "--trials",
        "20",
        "--out",
        str(out),
    ]
    return [
        "retrain",
        str(samples / "breast_cancer_mlp.onnx"),
        *data,
        "--search-passes",
        "3",
        "--draws",
        "2",
        *more,
    ]


@pytest.fixture(scope="module")
def retrained(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("retrained") / "out"
    assert run(arguments(samples, out, "--epochs", "4")) == 0
    return out


def test_description_follows_its_schema_and_has_both_sides(retrained):
    described = json.loads((retrained / "retrain.json").read_text())
    published = json.loads(schema_file("retrain").read_text())
    assert published == described_schema(Retraining), (
        "write it again: python -m cimrobust.certificate.published_schemas"
    )
    Draft202012Validator(published).validate(described)
    assert (
        described["splits"] | {"training": 303, "validation": 76, "evaluation": 190, "dropped": 0}
        == described["splits"]
    )
    assert [row["epoch"] for row in described["training"]["epochs"]] == [0, 1, 2, 3, 4]
    assert described["control"]["method"] == "plain"
    for key, folder in (("before", "before"), ("after", "after"), ("control_outcome", "control")):
        certificate = json.loads((retrained / folder / "certificate.json").read_text())
        assert described[key]["worst_found"] == certificate["worst_found"]["score"]
    assert described["after"]["transferred"] >= described["after"]["worst_found"]


def test_the_manifest_has_every_file_and_follows_a_report_that_is_made_again(retrained, tmp_path):
    folder = Path(shutil.copytree(retrained, tmp_path / "out"))
    assert manifest_problems(folder) == manifest_problems(folder / "after") == []
    (folder / "after" / "certificate.html").write_text("<p>")
    assert [problem.path for problem in manifest_problems(folder)] == ["after/certificate.html"]
    write_manifest(folder / "after")
    assert run(["report", str(folder / "after")]) == 0
    assert manifest_problems(folder) == manifest_problems(folder / "after") == []


def test_rate_is_chosen_where_none_is_given_and_both_trainings_use_it(retrained):
    described = json.loads((retrained / "retrain.json").read_text())
    rate = described["pace"]["rate"]
    assert described["settings"]["learning_rate"] == rate
    assert described["pace"]["tried"][-1]["clean"] >= described["pace"]["before"] - 0.05
    for training in (described["training"], described["control"]):
        assert training["epochs"][0]["learning_rate"] == rate
    assert described["training"]["weight_range"] >= described["training"]["knobs"]["range"]
    assert described["control"]["weight_range"] is None


def test_model_differs_in_the_data_of_its_initializers_alone(retrained, samples):
    old, new = (
        onnx.load(path) for path in (samples / "breast_cancer_mlp.onnx", retrained / "model.onnx")
    )
    changed = [
        a.name
        for a, b in zip(old.graph.initializer, new.graph.initializer, strict=True)
        if a.raw_data != b.raw_data
    ]
    assert len(changed) == len(old.graph.initializer) == 6
    for model in (old, new):
        for tensor in model.graph.initializer:
            tensor.raw_data = b""
    assert old.SerializeToString(deterministic=True) == new.SerializeToString(deterministic=True)


def test_log_has_a_row_for_every_epoch_of_both_trainings(retrained):
    table = pq.read_table(retrained / "training.parquet").to_pydict()
    described = json.loads((retrained / "retrain.json").read_text())
    more = list(described["more_trainings"])
    assert more[0] == "clip"
    assert table["role"] == [role for role in ("method", "control", *more) for _ in range(5)]
    assert np.isfinite(table["loss"][1:5]).all()


def test_report_shows_the_numbers_of_the_description(retrained):
    page, described = (
        (retrained / "retrain.html").read_text(),
        json.loads((retrained / "retrain.json").read_text()),
    )
    shown = dict(re.findall(r'data-json-path="([^"]+)" value="([^"]*)"', page))
    assert float(shown["after.worst_found"]) == described["after"]["worst_found"]
    assert float(shown["control_outcome.clean"]) == described["control_outcome"]["clean"]
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#|data:|before|after|control)', page)


def test_every_network_on_the_way_is_written_and_scored(retrained):
    described = json.loads((retrained / "retrain.json").read_text())
    steps = {step["name"]: step for step in described["steps"]}
    assert {"as it is", "clipped", "plain", "plain, clipped", "method"} <= set(steps)
    for name, folder in (("as it is", "before"), ("plain", "control"), ("method", "after")):
        certificate = json.loads((retrained / folder / "certificate.json").read_text())
        assert steps[name]["certified"]
        assert steps[name]["worst_found"] == certificate["worst_found"]["score"]
    for step in steps.values():
        assert 0 <= step["worst_found"] <= step["clean"] <= 1
        assert step["sign_walk"]["reached"] > 0
        assert step["carlini_wagner"] is None
        assert "from effort standard on" in step["authors_reason"]
        if step["folder"] is not None:
            assert sha256_of(retrained / step["folder"] / "model.onnx") == step["sha256"]


def test_weights_of_every_layer_are_measured_before_and_after(retrained):
    described = json.loads((retrained / "retrain.json").read_text())
    assert [row["initializer"] for row in described["weights"]] == described["parameters"]["stored"]
    for row, name in zip(described["weights"], described["parameters"]["stored"], strict=True):
        model = onnx.load(retrained / "model.onnx")
        (tensor,) = (one for one in model.graph.initializer if one.name == name)
        largest = float(np.abs(onnx.numpy_helper.to_array(tensor)).max())
        assert row["after"]["largest"] == pytest.approx(largest, rel=1e-5)
        for role in ("before", "control", "clip", "after"):
            assert row[role]["box_radius"] == pytest.approx(0.1 * row[role]["largest"], rel=1e-3)
            assert 0 < row[role]["mean_level"] < 1
        assert row["clip"]["mean_level"] >= row["control"]["mean_level"] - 0.05


def test_diagnostics_of_all_certificates_stand_side_by_side(retrained):
    described = json.loads((retrained / "retrain.json").read_text())
    for folder in ("before", "control", "after"):
        certificate = json.loads((retrained / folder / "certificate.json").read_text())
        attacks = {row["initializer"]: row for row in certificate["diagnostics"]["layers"]["rows"]}
        assert {row["initializer"] for row in described["layers"]["rows"]} == set(attacks)
        for row in described["layers"]["rows"]:
            assert row[folder] == {
                key: attacks[row["initializer"]][key]["score"] for key in ("alone", "others")
            }
        worst = {
            row["tolerance"]: row[folder]["worst_found"] for row in described["tolerances"]["rows"]
        }
        points = certificate["diagnostics"]["tolerance_curve"]["points"]
        assert len(points) == 5
        assert all(
            worst[point["tolerance"]] == point["score"]
            for point in points
            if point["tolerance"] != 0.1
        )
        assert worst[0.1] == certificate["worst_found"]["score"]
        assert {setting["key"]: setting["value"] for setting in certificate["settings"]}[
            "diagnostics"
        ] == "layers,tolerance_curve"


def test_report_says_what_nobody_asked_for(samples, tmp_path):
    more = (
        "--epochs",
        "1",
        "--learning-rate",
        "3e-3",
        "--no-control",
        "--no-equivalent",
        "--diagnostics",
        "layers",
    )
    assert run(arguments(samples, tmp_path / "out", *more)) == 0
    described = json.loads((tmp_path / "out" / "retrain.json").read_text())
    assert described["pace"] is None
    assert described["steps"] == []
    assert described["steps_reason"] == "there are no controls"
    assert described["settings"]["learning_rate"] == 3e-3
    assert described["tolerances"] is None
    assert described["layers"] is not None
    assert (
        f"Not measured: {described['tolerances_reason']}"
        in (tmp_path / "out" / "retrain.html").read_text()
    )


def test_evaluation_data_cannot_be_trained_on(samples, tmp_path, capsys):
    (tmp_path / "same.npz").write_bytes((samples / "breast_cancer_test.npz").read_bytes())
    (tmp_path / "same.toml").write_text(
        (samples / "breast_cancer_mlp.toml")
        .read_text()
        .replace("breast_cancer_train", "same")
        .replace("breast_cancer_test", "same")
    )
    code = run(arguments(samples, tmp_path / "out", "--train", str(tmp_path / "same.toml")))
    assert code == 2
    assert "must share no sample, got 190 of 190 training samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--method", "magic"), "method must be one of plain"),
        (("--set", "sigma"), "must be name=number, got 'sigma'"),
        (("--set", "sigma=1"), "settings of method cimrobust must be among"),
        (("--learning-rate", "-1"), "learning rate must be positive, got -1.0"),
        (("--diagnostics", "magic"), "diagnostics must be all, none or some of layers, "),
        (("--freeze", "nothing"), "got ['nothing'] (--freeze)"),
    ],
)
def test_wrong_usage_is_named(samples, tmp_path, capsys, more, message):
    assert run(arguments(samples, tmp_path / "out", *more)) == 2
    assert message in capsys.readouterr().err


def test_a_bare_training_file_is_read_as_the_evaluation_data_are(samples, retrained, tmp_path):
    more = (
        "--epochs",
        "1",
        "--no-control",
        "--no-equivalent",
        "--train",
        str(samples / "breast_cancer_train.npz"),
    )
    assert run(arguments(samples, tmp_path / "out", *more)) == 0
    first, same = (
        json.loads((folder / "retrain.json").read_text())
        for folder in (tmp_path / "out", retrained)
    )
    assert first["splits"]["digest"] == same["splits"]["digest"]
    assert first["training"]["epochs"][0]["clean"] == same["training"]["epochs"][0]["clean"]


def test_external_data_are_written_beside_the_model_and_never_over_the_old_ones(
    samples, tmp_path, capsys
):
    (tmp_path / "in").mkdir()
    kept = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save(onnx.load(samples / "breast_cancer_mlp.onnx"), tmp_path / "in" / "net.onnx", **kept)
    before = [(path.name, path.read_bytes()) for path in sorted((tmp_path / "in").iterdir())]
    more = ("--epochs", "1", "--no-control", "--no-equivalent", "--limit", "40")
    words = [
        "retrain",
        str(tmp_path / "in" / "net.onnx"),
        *arguments(samples, tmp_path / "in", *more)[2:],
    ]
    assert run(words) == 2
    assert re.search(
        r"must not replace the model that it comes from, got \S*in/w.bin \(--out\)",
        capsys.readouterr().err,
    )
    assert [(name, (tmp_path / "in" / name).read_bytes()) for name, _content in before] == before
    words[words.index("--out") + 1] = str(tmp_path / "out")
    assert run(words) == 0
    digests = json.loads((tmp_path / "out" / "retrain.json").read_text())["files"]
    assert digests == {
        name: sha256_of(tmp_path / "out" / name)
        for name in ("model.onnx", "w.bin", "training.parquet")
    }


def test_a_model_cannot_be_replaced_by_what_comes_of_it(samples, tmp_path, capsys):
    for folder in ("out", "out/control"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "model.onnx"
        path.write_bytes((samples / "breast_cancer_mlp.onnx").read_bytes())
        assert (
            run(["retrain", str(path), *arguments(samples, tmp_path / "out", "--epochs", "1")[2:]])
            == 2
        )
        assert (
            f"must not replace the model that it comes from, got {path} (--out)"
            in capsys.readouterr().err
        )
        assert path.read_bytes() == (samples / "breast_cancer_mlp.onnx").read_bytes()


def test_workers_make_the_certificates(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    start = Processes.__enter__

    def counted(self: Processes) -> Processes:
        opened.append("a stage")
        return start(self)

    monkeypatch.setattr(Processes, "__enter__", counted)
    few = ["--epochs", "1", "--limit", "10", "--method", "plain", "--diagnostics", "none"]
    assert run(arguments(samples, tmp_path, *few, "--cluster", "processes:1")) == 0
    assert len(opened) >= 4  # chips and effects of the old network and of the new one
    assert (tmp_path / "retrain.json").exists()


def test_a_place_to_work_that_is_none_is_refused_before_anything_is_written(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(samples, tmp_path / "out", "--cluster", "nowhere")) == 2
    assert "cluster must be processes:N" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
