"""Data sets of every kind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from PIL import Image

from cimrobust.data.fitted_task import make_task
from cimrobust.data.load_dataset import load_data
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.network import TensorSpec
from tests.zoo_networks import zoo_entries

IMAGE = (TensorSpec("image", "float32", ("batch", 3, 2, 4)),)
X = np.zeros((1, 3), np.float32)
ROW = (TensorSpec("row", "float32", ("batch", 3)),)


def test_steps_run_in_order_on_channels_last(tmp_path):
    x = np.arange(2 * 2 * 4 * 3, dtype=np.uint8).reshape(2, 2, 4, 3)
    np.savez(tmp_path / "d.npz", x=x, y=[0, 1])
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "d.npz"\n[[input]]\narray = "x"\nsteps = [{ op = "divide", value = 255'
        ' }, { op = "subtract", value = [0.1, 0.2, 0.3] }, { op = "multiply", value = 2 }, { op ='
        ' "transpose", perm = [0, 3, 1, 2] }]\n'
    )
    loaded = load_data(tmp_path / "d.toml", inputs=IMAGE)
    expected = (
        (x.astype(np.float32) / np.float32(255) - np.array([0.1, 0.2, 0.3], np.float32))
        * np.float32(2)
    ).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(loaded.inputs["image"], expected)
    assert loaded.source.files.keys() == {"d.toml", "d.npz"}
    assert loaded.labels.tolist() == [0, 1]


def test_limit_takes_the_first_samples_and_remembers_how_many_there_were(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(12, dtype=np.float32).reshape(4, 3), y=np.arange(4))
    loaded = load_data(tmp_path / "d.npz", inputs=ROW, limit=2)
    assert (loaded.num_samples, loaded.source.num_available) == (2, 4)
    assert loaded.labels.tolist() == [0, 1]


def test_training_data_come_from_their_own_file(tmp_path):
    for name, size in (("d", 2), ("t", 5)):
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((size, 3), np.float32), y=np.zeros(size, int))
    (tmp_path / "d.toml").write_text('schema = 1\nfile = "d.npz"\ntrain_file = "t.npz"\n')
    assert load_data(tmp_path / "d.toml", inputs=ROW).num_samples == 2
    assert load_data(tmp_path / "d.toml", inputs=ROW, part="train").num_samples == 5


def test_constant_inputs_and_several_inputs(tmp_path):
    np.savez(
        tmp_path / "d.npz", a=np.zeros((2, 3), np.float32), b=np.ones((2, 1), np.int64), y=[0, 1]
    )
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "d.npz"\n[[input]]\nname = "a"\narray = "a"\n[[input]]\nname ='
        ' "b"\narray = "b"\ndtype = "int64"\n[[input]]\nname = "c"\nvalue = [1.5, 2.5]\n'
    )
    inputs = (
        TensorSpec("a", "float32", (None, 3)),
        TensorSpec("b", "int64", (None, 1)),
        TensorSpec("c", "float32", (2,)),
    )
    loaded = load_data(tmp_path / "d.toml", inputs=inputs)
    assert loaded.inputs["b"].dtype == np.int64
    assert loaded.constants["c"].tolist() == [1.5, 2.5]


TABLE = "age,city,note,label\n1,0,a,2\n4,1,b,5\n"
AGE_AND_CITY = [TensorSpec("age", "float32", (None, 1)), TensorSpec("city", "int64", (None, 1))]


@pytest.mark.parametrize("limit", [None, 2])
def test_several_graph_inputs_take_the_columns_of_their_names(tmp_path, limit):
    (tmp_path / "d.csv").write_text(TABLE)
    loaded = load_data(tmp_path / "d.csv", inputs=AGE_AND_CITY, limit=limit)
    assert {name: array.tolist() for name, array in loaded.inputs.items()} == {
        "age": [[1], [4]],
        "city": [[0], [1]],
    }
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [2, 5]


def test_a_column_of_text_is_no_feature(tmp_path):
    (tmp_path / "d.csv").write_text(TABLE)
    with pytest.raises(
        InputRefusedError, match=r"got text in \['note'\] of .*code text as numbers"
    ):
        load_data(tmp_path / "d.csv", inputs=ROW)


def test_columns_that_the_network_does_not_take_are_named_as_such(tmp_path):
    (tmp_path / "d.csv").write_text("id,a,b,c,label\n1,0,2,3,0\n4,1,5,6,1\n")
    message = r"samples of shape \[4\] .*; take out the columns that the network does not take"
    with pytest.raises(UsageError, match=message):
        load_data(tmp_path / "d.csv", inputs=ROW)


def test_csv_takes_the_label_column_by_name(tmp_path):
    (tmp_path / "d.csv").write_text("a,label,b,c\n1,0,2,3\n4,1,5,6\n")
    loaded = load_data(tmp_path / "d.csv", inputs=ROW)
    assert loaded.inputs["row"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert loaded.labels.tolist() == [0, 1]


def test_image_folders_number_their_classes_in_order(tmp_path):
    for index, name in enumerate(("cat", "dog")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for count in range(2):
            Image.new("RGB", (8, 6), (index * 100 + count, 0, 0)).save(
                tmp_path / "images" / name / f"{count}.png"
            )
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "images"\n[[input]]\nsteps = [{ op = "resize", size = [3, 4] }, { op ='
        ' "crop", size = [2, 4] }, { op = "transpose", perm = [0, 3, 1, 2] }]\n'
    )
    loaded = load_data(tmp_path / "d.toml", inputs=IMAGE)
    assert loaded.inputs["image"].shape == (4, 3, 2, 4)
    assert loaded.labels.tolist() == [0, 1, 0, 1]
    assert loaded.inputs["image"][:, 0, 0, 0].tolist() == [0, 100, 1, 101]


def test_image_folders_need_a_description(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.new("RGB", (4, 2)).save(tmp_path / "images" / "cat" / "0.png")
    with pytest.raises(UsageError, match="write a description"):
        load_data(tmp_path / "images", inputs=IMAGE)


MORE = (*ROW, TensorSpec("more", "float32", ("batch", 3)))


@pytest.mark.parametrize(
    ("sets", "description", "inputs", "problem"),
    [
        (
            {0: {"input_0": X, "input_1": X}},
            "",
            ROW,
            "test data must fit the 1 graph inputs, got input_1.pb named ''",
        ),
        (
            {0: {"input_0": X, "output_0": X}, 1: {"input_0": X}},
            "",
            ROW,
            r"every test data set must have all inputs and outputs, got gaps for \['output_0.pb'\]",
        ),
        (
            {0: {"input_0": X}, 1: {"input_0": X[:, :2]}},
            "",
            ROW,
            "test data sets must have inputs of one shape, got .* for 'row'",
        ),
        (
            {0: {"input_0": X, "output_0": X}},
            '[label]\narray = "z"\n',
            ROW,
            "labels of a folder of test data are its stored outputs, got array 'z'",
        ),
        (
            {},
            None,
            ROW,
            r"a folder must hold ONNX test data \(test_data_set_\*/input_0.pb\), got none",
        ),
        ({}, "", ROW, "image folder must have one sub-folder of images a class, got none"),
        (
            {},
            '[[input]]\nname = "row"\n[[input]]\nname = "more"\n',
            MORE,
            r"image folders feed one graph input, got \['row', 'more'\]",
        ),
    ],
)
def test_folders_that_hold_something_else_are_refused(tmp_path, sets, description, inputs, problem):
    (tmp_path / "data").mkdir()
    for index, arrays in sets.items():
        folder = tmp_path / "data" / f"test_data_set_{index}"
        folder.mkdir()
        for name, array in arrays.items():
            content = onnx.numpy_helper.from_array(array).SerializeToString()
            (folder / f"{name}.pb").write_bytes(content)
    source = tmp_path / "data"
    if description is not None:
        source = tmp_path / "d.toml"
        source.write_text(f'schema = 1\nfile = "data"\n{description}')
    with pytest.raises(UsageError, match=problem):
        load_data(source, inputs=inputs)


@pytest.mark.parametrize(
    ("given", "part", "problem"),
    [
        ("d.npz", "train", "training data must come from a description with train_file, got .*npz"),
        ("d.toml", "train", "data description must name a train_file for training, got none"),
        (
            "d.txt",
            "eval",
            "data must be .toml, .npz, .csv, .parquet, .arrow, .feather, a .*`cimrobust init`",
        ),
    ],
)
def test_data_that_nothing_reads_are_refused_with_what_is_read(tmp_path, given, part, problem):
    (tmp_path / "d.toml").write_text('schema = 1\nfile = "d.npz"\n')
    with pytest.raises(UsageError, match=problem):
        load_data(tmp_path / given, inputs=ROW, part=part)


def test_onnx_test_data_label_themselves(tmp_path):
    for index in range(3):
        folder = tmp_path / f"test_data_set_{index}"
        folder.mkdir()
        scores = np.zeros((1, 4), np.float32)
        scores[0, index] = 1
        for name, array in (("input_0", np.full((1, 3), index, np.float32)), ("output_0", scores)):
            (folder / f"{name}.pb").write_bytes(
                onnx.numpy_helper.from_array(array).SerializeToString()
            )
    loaded = load_data(tmp_path, inputs=ROW)
    assert loaded.inputs["row"].shape == (3, 3)
    assert loaded.reading.kind == "stored"
    assert make_task(loaded, loaded.labels).labels.tolist() == [0, 1, 2]


def test_functions_return_arrays(tmp_path, monkeypatch):
    (tmp_path / "mydata_of_test.py").write_text(
        "import numpy as np\ndef make():\n    return {'x': np.zeros((2, 3), np.float32), 'y':"
        " np.array([0, 1])}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_data("mydata_of_test:make", inputs=ROW).num_samples == 2


def test_samples_without_a_batch_axis_in_the_graph(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((5, 3), np.float32), y=np.zeros(5, int))
    assert load_data(tmp_path / "d.npz", inputs=(TensorSpec("row", "float32", (3,)),)).inputs[
        "row"
    ].shape == (5, 3)


def test_every_description_of_the_zoo_fits_its_network(zoo):
    for entry in zoo_entries(zoo).values():
        network = load_network(zoo / entry["file"])
        loaded = load_data(zoo / f"{entry['name']}.toml", inputs=network.inputs)
        assert loaded.num_samples == entry["clean"]["samples"]
        assert (loaded.labels is None) == (entry["labels"] == "self")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1,2,3\n4,5,6\n", "row of column names, got numbers"),
        ("a,a,y\n1,2,0\n", r"names of their own, got \['a'\]"),
        ("a,b,y\n1,x,0\n", "got text in"),
        ("y\n0\n", "at least two columns"),
        ("a;b;y\n1;2;0\n", "CSV columns must be parted by commas, got ';'"),
        ("a;b;y\n1,5;2,5;0\n", "CSV columns must be parted by commas, got ';'"),
        ("a\tb\ty\n1\t2\t0\n", r"CSV columns must be parted by commas, got '\\t'"),
        ("a,b,y\n", "rows below its header, got none"),
    ],
)
def test_a_table_without_a_proper_header_is_refused(tmp_path, text, problem):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputRefusedError, match=problem):
        load_data(tmp_path / "d.csv", inputs=ROW)


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("text", ["ä,b,y\n1,2,0\n", "a,b,y\n1,2,ä\n"])
def test_a_table_in_another_encoding_is_refused(tmp_path, text, limit):
    (tmp_path / "d.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputRefusedError, match=r"CSV must be text in UTF-8, got byte 0xe4 at \d"):
        load_data(tmp_path / "d.csv", inputs=ROW, limit=limit)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.float32(3.0), np.zeros(2)),
        (np.zeros((2, 3)), np.int64(1)),
        (np.zeros((0, 3)), np.zeros(0)),
    ],
)
def test_arrays_without_samples_are_refused(tmp_path, x, y):
    np.savez(tmp_path / "d.npz", x=x, y=y)
    with pytest.raises(UsageError, match="samples"):
        load_data(tmp_path / "d.npz", inputs=ROW)


@pytest.mark.parametrize(
    ("values", "dtype", "wrong"),
    [
        ([0.5, 1.0, 2.0], "int64", "0.5"),
        ([1.0, 300.0, 2.0], "uint8", "300"),
        ([1.0, 1e38, 2.0], "float16", "e"),
        ([0.0, 2.0, 1.0], "bool", "2"),
    ],
)
def test_values_that_the_type_cannot_hold_are_refused(tmp_path, values, dtype, wrong):
    np.savez(tmp_path / "d.npz", x=np.array([values]), y=[0])
    (tmp_path / "d.toml").write_text(
        f'schema = 1\nfile = "d.npz"\n[[input]]\narray = "x"\ndtype = "{dtype}"\n'
    )
    with pytest.raises(
        UsageError,
        match=f"values must be (finite|whole) numbers.* as {dtype}, got .*{wrong}.*key 'dtype'",
    ):
        load_data(tmp_path / "d.toml", inputs=ROW)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("[[1, 2], [3]]", "lists of equal length"),
        ('["a"]', "'value' must hold finite numbers that fit 64 bits, got others"),
        (f"[{2**70}]", "got a whole number of 71 bits, where 64 bits are read"),
        ("[1.5]", "as int64, got 1.5"),
    ],
)
def test_constants_must_be_numbers_of_their_type(tmp_path, value, problem):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3)), y=[0, 1])
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "d.npz"\n[[input]]\nname = "row"\narray = "x"\n[[input]]\nname ='
        ' "c"\ndtype = "int64"\n' + f"value = {value}\n"
    )
    with pytest.raises(UsageError, match=problem):
        load_data(tmp_path / "d.toml", inputs=(*ROW, TensorSpec("c", "int64", (1,))))


def described(tmp_path):
    """A description with steps, a label array and a threshold; its own file is not looked at when
    others are given.
    """
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "absent.npz"\n[[input]]\narray = "row"\nsteps = [{ op = "divide", value'
        ' = 2 }]\n[label]\narray = "is_good"\n[decision]\nread = "threshold"\nvalue = 0.5\n'
    )
    return tmp_path / "d.toml"


def test_files_without_a_description_are_read_by_that_of_the_data_they_belong_to(tmp_path):
    np.savez(tmp_path / "more.npz", row=np.full((4, 3), 8.0), is_good=np.array([0, 1, 1, 0]))
    loaded = load_data(tmp_path / "more.npz", inputs=ROW, like=described(tmp_path))
    np.testing.assert_array_equal(loaded.inputs["row"], np.full((4, 3), 4.0, np.float32))
    assert loaded.labels.tolist() == [0, 1, 1, 0]
    assert (loaded.decision.read, loaded.decision.threshold) == ("threshold", 0.5)
    assert loaded.source.files.keys() == {"d.toml", "more.npz"}


def test_functions_are_read_by_the_description_of_the_data_they_belong_to(tmp_path, monkeypatch):
    (tmp_path / "made_for_training.py").write_text(
        "import numpy\n\ndef rows():\n    return {'row': numpy.ones((2, 3)), 'is_good': [0, 1]}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load_data("made_for_training:rows", inputs=ROW, like=described(tmp_path))
    np.testing.assert_array_equal(loaded.inputs["row"], np.full((2, 3), 0.5, np.float32))
    assert loaded.decision.read == "threshold"


def test_wrong_arrays_for_the_description_of_others_are_named(tmp_path):
    np.savez(tmp_path / "more.npz", x=np.ones((4, 3)), y=np.zeros(4, int))
    with pytest.raises(
        UsageError,
        match=(
            r"must hold the arrays \['is_good', 'row'\], got \['x', 'y'\] without .* \(.*more.npz\)"
        ),
    ):
        load_data(tmp_path / "more.npz", inputs=ROW, like=described(tmp_path))
    with pytest.raises(UsageError, match=r"data file must be a readable file, got .*none.npz"):
        load_data(tmp_path / "none.npz", inputs=ROW, like=described(tmp_path))
