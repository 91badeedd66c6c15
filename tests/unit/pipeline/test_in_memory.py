"""What is given in memory becomes a file for one call, or a message that says what is taken."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from torch.utils.data import DataLoader, TensorDataset

from cimrobust.data.array_bytes import array_bytes
from cimrobust.errors import ModelNotCoveredError, UsageError
from cimrobust.files import stated_place
from cimrobust.onnx_io import model_bytes as exporting
from cimrobust.onnx_io.model_bytes import model_bytes
from cimrobust.onnx_io.save import to_bytes
from cimrobust.pipeline.in_memory import given_path, takes_objects
from cimrobust.settings.analysis_settings import AnalysisSettings

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2] x) => (float[n, 2] y) <float[2, 2] w = {1, 0, 0, 1}> { y = MatMul(x, w) }
"""
X, Y = np.eye(2, dtype=np.float32), np.array([0, 1])


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.glob("cimrobust-in-memory-*"))


@takes_objects
def seen(*, example_input: Any = None, settings: Any = None, **options: Any) -> dict[str, Any]:
    """Return what a function sees of its arguments: names of files, and their content."""
    given = {**options, **(settings if isinstance(settings, dict) else {})}
    if isinstance(settings, AnalysisSettings):
        given["policy"] = settings.policy
    return {
        name: (value.name, value.read_bytes()) if isinstance(value, Path) else value
        for name, value in given.items()
    }


@takes_objects
def failing(model: object) -> None:
    """Name the file of a model in an error."""
    raise UsageError(f"model must be better, got another ({given_path(model)}); train it")


def stored(content: bytes, tmp_path: Path) -> dict[str, np.ndarray]:
    (tmp_path / "stored.npz").write_bytes(content)
    with np.load(tmp_path / "stored.npz") as arrays:
        return dict(arrays)


def test_model_is_a_file_for_one_call() -> None:
    model = parser.parse_model(MODEL)
    content = model.SerializeToString()
    for given in (model, content, bytearray(content)):
        assert seen(model=given) == {"model": ("model-in-memory.onnx", content)}


def test_paths_and_other_arguments_are_left_alone(tmp_path: Path) -> None:
    given = {
        "model": "a.onnx",
        "data": "module:function",
        "device": "x",
        "trials": 3,
        "digital": [],
    }
    assert seen(**given) == given


def test_tables_are_toml_also_inside_of_settings() -> None:
    tables = {"require": {"clean_accuracy": 0.9}}
    written = ("policy-in-memory.toml", b"[require]\nclean_accuracy = 0.9\n")
    assert seen(policy=tables) == {"policy": written}
    assert seen(settings={"policy": tables}) == {"policy": written}
    assert seen(settings=AnalysisSettings(policy=tables)) == {"policy": written}  # type: ignore[arg-type]
    assert seen(device={"name": "mine"})["device"][0] == "device-in-memory.toml"


def test_a_model_beyond_one_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def beyond(self: object) -> bytes:
        raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")

    monkeypatch.setattr(onnx.ModelProto, "SerializeToString", beyond)
    with pytest.raises(UsageError, match="model in memory must fit in one file of 2 GiB, got Mess"):
        exporting._serialised(onnx.ModelProto())
    with pytest.raises(ModelNotCoveredError, match="model must fit in one ONNX file of 2 GiB, got"):
        to_bytes(onnx.ModelProto(), Path("m.onnx"))


def test_inputs_that_are_no_tensors_are_refused() -> None:
    with pytest.raises(UsageError, match="example_input must be a tensor or an array, or a tuple"):
        exporting._tensors(torch.nn.Linear(2, 2), "image")


def test_errors_name_the_file_without_its_folder() -> None:
    with pytest.raises(UsageError, match=r"got another \(model-in-memory.onnx\)"):
        failing(b"any")


def test_place_in_results_is_the_name_alone() -> None:
    @takes_objects
    def place(model: object) -> str:
        return stated_place(given_path(model))

    assert place(b"any") == "model-in-memory.onnx"
    assert place("folder/model.onnx") == "folder/model.onnx"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": 5}, "model must be a file or a model in memory, got int"),
        ({"model": [1]}, "got list (model); give the path of an ONNX file, its bytes"),
        ({"data": 5}, "data must be a file or data in memory, got int"),
        ({"data": (X, Y, Y)}, "got a tuple of 3 (data)"),
        ({"policy": [1]}, "policy must be a file or its tables, got list (policy)"),
        ({"policy": {"require": None}}, "policy must hold what TOML can, got"),
        ({"device": 0.03}, "device profile must be a file or its tables, got float"),
        ({"directory": 5}, "directory must be a folder or a result that lies in one, got int"),
        ({"directory": SimpleNamespace(directory=3)}, "got SimpleNamespace"),
        ({"out": 5}, "out must be a path, got int (out)"),
        ({"model": "m.onnx", "example_input": 3}, "example_input must come with a torch.nn.Module"),
        ({"model": b"m", "example_input": 3}, "example_input must come with a torch.nn.Module"),
    ],
)
def test_other_objects_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        seen(**given)


def test_results_stand_for_their_folders(tmp_path: Path) -> None:
    @takes_objects
    def folder(directory: object) -> Path:
        return given_path(directory)

    assert folder(SimpleNamespace(directory=tmp_path)) == tmp_path


@pytest.mark.parametrize(
    "data",
    [
        (X, Y),
        {"x": X, "y": Y},
        (torch.from_numpy(X), torch.from_numpy(Y)),
        (X.tolist(), Y.tolist()),
        TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
        DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=1),
    ],
    ids=["pair", "by name", "tensors", "lists", "dataset", "loader"],
)
def test_arrays_of_every_kind(data: object, tmp_path: Path) -> None:
    arrays = stored(array_bytes(data, name="data"), tmp_path)
    np.testing.assert_array_equal(arrays["x"], X)
    np.testing.assert_array_equal(arrays["y"], Y)


def test_same_arrays_give_the_same_bytes() -> None:
    assert array_bytes((X, Y), name="data") == array_bytes({"x": X, "y": Y}, name="data")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y[:1]), "arrays must have as many samples as labels, got shapes x (2, 2), y (1,)"),
        ((X.astype(object), Y), "got dtype object (data, array 'x')"),
        (([[1.0], [1.0, 2.0]], Y), "array must be one of numbers, got list"),
        ((X[:0], Y[:0]), "array must have at least one sample along its first axis, got shape (0,"),
        ((3.0, Y), "got shape () (data, array 'x')"),
        ({"x": X}, "data must hold samples and labels y, got ['x']"),
        ({}, "data must hold samples and labels y, got no array"),
        ({1: X, "y": Y}, "data must name its arrays by text"),
        (TensorDataset(torch.eye(2)), "data must give samples and labels, two tensors, got 1"),
        (
            DataLoader(TensorDataset(torch.eye(2), torch.arange(2)), shuffle=True),
            "must be a DataLoader with a fixed order, got one that shuffles",
        ),
    ],
)
def test_arrays_that_are_no_data(data: object, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        array_bytes(data, name="data")


class Scaled(torch.nn.Module):
    """A layer that is another in training."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.layer(x))


def test_module_is_exported_as_it_infers() -> None:
    module = Scaled()
    module.layer.eval()
    content = model_bytes(module, example_input=np.zeros((1, 3), np.float32))
    assert content == model_bytes(module, example_input=(torch.zeros(1, 3),))
    assert (module.training, module.drop.training, module.layer.training) == (True, True, False)
    model = onnx.load_from_string(content)
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert __file__.encode() not in content


def test_module_without_input() -> None:
    with pytest.raises(UsageError, match="must come with an input to export it with"):
        model_bytes(Scaled())


def test_module_that_cannot_be_exported() -> None:
    with pytest.raises(UsageError, match=r"must be one that torch.onnx.export exports, got \w+"):
        model_bytes(Scaled(), example_input=torch.zeros(2, 7))


def test_module_without_onnxscript(monkeypatch: pytest.MonkeyPatch) -> None:
    found: Callable[[str], Any] = exporting.importlib.util.find_spec
    monkeypatch.setattr(
        exporting.importlib.util,
        "find_spec",
        lambda name: None if name == "onnxscript" else found(name),
    )
    with pytest.raises(UsageError, match="install it: pip install onnxscript"):
        model_bytes(Scaled(), example_input=torch.zeros(2, 3))


def test_torch_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "torch.utils.data"):
        monkeypatch.delitem(sys.modules, name)
    assert model_bytes(b"any") == b"any"
    assert array_bytes((X, Y), name="data")


def test_a_data_frame_is_one_input_of_its_columns_and_the_labels(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"b": [1, 2], "label": [0, 1], "a": [3.5, 4.5]})
    arrays = stored(array_bytes(frame, name="data"), tmp_path)
    assert arrays["x"].dtype == np.float32
    assert arrays["x"].tolist() == [[1, 3.5], [2, 4.5]]
    assert arrays["y"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [1], "b": [2]}, "must have one column of labels"),
        ({"a": [1], "y": [2], "label": [2]}, "must have one column of labels"),
        ({"a": ["red"], "y": [2]}, "columns must be numbers, got .* in 'a'"),
    ],
)
def test_a_data_frame_that_is_not_clear_is_refused(columns, said):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(UsageError, match=said):
        array_bytes(pandas.DataFrame(columns), name="data")


class Columns:
    """What a Hugging Face Dataset looks like: rows are arrays once its format is numpy's."""

    def __init__(self, columns: dict[str, Any], form: str = "python") -> None:
        self.columns, self.form = columns, form
        self.column_names = list(columns)

    def with_format(self, form: str) -> Columns:
        return Columns(self.columns, form)

    def __getitem__(self, rows: slice) -> dict[str, Any]:
        assert self.form == "numpy"
        return {name: np.asarray(values)[rows] for name, values in self.columns.items()}


def test_columns_of_a_dataset_are_graph_inputs(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(Dataset=Columns))
    two = Columns({"ids": [[1, 2], [3, 4]], "mask": [[1, 1], [1, 0]], "label": [0, 1]})
    arrays = stored(array_bytes(two, name="data"), tmp_path)
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "ids": [[1, 2], [3, 4]],
        "mask": [[1, 1], [1, 0]],
        "y": [0, 1],
    }
    one = Columns({"image": [[1.0], [2.0]], "label": [0, 1]})
    assert set(stored(array_bytes(one, name="data"), tmp_path)) == {"x", "y"}


def test_an_estimator_of_scikit_learn_is_converted():
    pytest.importorskip("skl2onnx")
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = np.array([[0, 1], [1, 0], [2, 1], [1, 3]], np.float32)
    fitted = linear_model.LogisticRegression().fit(x, [0, 0, 1, 1])
    assert model_bytes(fitted) == model_bytes(fitted)
    model = onnx.load_from_string(model_bytes(fitted))
    assert [value.name for value in model.graph.output] == ["label", "probabilities"]
    with pytest.raises(UsageError, match="must be fitted, got a LogisticRegression"):
        model_bytes(linear_model.LogisticRegression())
