"""Of a file only the samples that are wanted are held."""

from __future__ import annotations

import tracemalloc
import zipfile

import numpy as np
import pytest

from cimrobust.data import array_files
from cimrobust.data.array_files import read_npz, read_rows_of_npz
from cimrobust.data.calibration import load_samples
from cimrobust.data.load_dataset import load_data
from cimrobust.data.row_choice import RowChoice, as_slices, first_of
from cimrobust.data.sources import read_csv
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.onnx_io.network import TensorSpec

ROW = (TensorSpec("row", "float32", ("batch", "width")),)
LARGE = 2**20  # numbers of one sample: 4 MB


def write(path, compression=zipfile.ZIP_STORED, **arrays):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array)
    return path


def places(*rows):
    return RowChoice(lambda _count: np.array(rows, dtype=np.int64))


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|b1", "<U3"])
@pytest.mark.parametrize("rows", [(0, 1), (3,), (0, 2, 3, 6), (5, 6)])
def test_rows_are_those_of_the_whole_array(compression, order, dtype, rows, tmp_path):
    array = np.asarray(np.arange(84).reshape(7, 3, 4), dtype=dtype, order=order)
    path = write(tmp_path / "d.npz", compression, x=array)
    read = read_rows_of_npz(path, {"x"}, places(*rows))
    np.testing.assert_array_equal(read.arrays["x"], array[list(rows)])
    assert read.arrays["x"].dtype == array.dtype.newbyteorder("=")
    assert (read.lengths, read.digest) == ({"x": 7}, read_npz(path, {"x"})[1])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("order", ["C", "F"])
def test_two_samples_take_the_memory_of_two_samples(compression, order, tmp_path):
    array = np.zeros((12, LARGE), np.float32, order=order)
    path = write(tmp_path / "d.npz", compression, x=array, y=np.zeros(12, np.int64))
    del array
    tracemalloc.start()
    try:
        dataset = load_data(path, inputs=ROW, limit=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (dataset.num_samples, dataset.source.num_available) == (2, 12)
    # Two samples of 8 MB, a copy, and the block that is read; the whole array is 50 MB.
    assert peak < 30e6


def test_a_file_larger_than_memory_is_read_where_the_samples_fit(tmp_path, monkeypatch):
    path = write(tmp_path / "d.npz", x=np.ones((64, 1000), np.float32), y=np.zeros(64, np.int64))
    monkeypatch.setattr(array_files, "available_memory", lambda: 100_000)
    assert load_data(path, inputs=ROW, limit=5).num_samples == 5
    with pytest.raises(InputRefusedError, match=r"got 256.* bytes .*\(--limit\)"):
        load_data(path, inputs=ROW)


@pytest.mark.parametrize("limit", [None, 1, 3, 100])
def test_samples_without_a_label_that_counts_are_no_part_of_the_limit(limit, tmp_path):
    labels = np.array([255, 0, 255, 1, 1, 0, 255])
    x = np.arange(7, dtype=np.float32)[:, None]
    write(tmp_path / "d.npz", x=x, y=labels)
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "d.npz"\n[label]\narray = "y"\nignore = 255\n'
    )
    dataset = load_data(tmp_path / "d.toml", inputs=ROW, limit=limit)
    assert dataset.inputs["row"].ravel().tolist() == [1, 3, 4, 5][:limit]
    assert dataset.labels.tolist() == [0, 1, 1, 0][:limit]
    assert (dataset.source.num_available, dataset.source.num_ignored) == (7, 3)


def test_no_label_that_counts_is_refused(tmp_path):
    write(tmp_path / "d.npz", x=np.zeros((3, 1), np.float32), y=np.full(3, 255))
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "d.npz"\n[label]\narray = "y"\nignore = 255\n'
    )
    with pytest.raises(UsageError, match="got 3 samples of none"):
        load_data(tmp_path / "d.toml", inputs=ROW, limit=1)


def test_arrays_of_other_lengths_are_named_with_a_limit_too(tmp_path):
    path = write(tmp_path / "d.npz", x=np.zeros((3, 1), np.float32), y=np.zeros(5, np.int64))
    with pytest.raises(UsageError, match=r"got \{'row': 3, 'labels': 5\}"):
        load_data(path, inputs=ROW, limit=1)


@pytest.mark.parametrize("limit", [None, 5])
def test_both_ends_are_read_once(limit, tmp_path):
    x = np.arange(40, dtype=np.float32)[:, None]
    path = write(tmp_path / "d.npz", x=x, y=np.arange(40) % 3)
    data, calibration = load_samples(path, None, inputs=ROW, limit=limit, needs_calibration=True)
    assert data.inputs["row"].ravel().tolist() == list(range(limit or 30))
    assert calibration.inputs["row"].ravel().tolist() == list(range(30, 40))
    assert calibration.labels.tolist() == [count % 3 for count in range(30, 40)]


@pytest.mark.parametrize(
    "rows",
    [
        ["1,2,0", "3,4,1"] * 200_000,  # several blocks of Arrow's reader
        [*["1,2,0"] * 300_000, "1.5,2,0"],  # a column that is of another type further down
        [*["1,2,0"] * 300_000, "1,2,cat"],
        ["1,2,a", "3,4,b", "5,6,a"],
    ],
    ids=["numbers", "later fraction", "later text", "text"],
)
def test_rows_of_a_table_are_those_of_the_whole_table(rows, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("\n".join(["a,b,label", *rows]) + "\n")
    whole, part = read_csv(path), read_csv(path, RowChoice(first_of(3)))
    assert part.files == whole.files
    for name in ("x", "y"):
        np.testing.assert_array_equal(part.arrays[name][:3], whole.arrays[name][:3])
        assert part.arrays[name].dtype == whole.arrays[name].dtype
    assert part.taken is not None
    assert part.taken.lengths["x"] == len(rows)


@pytest.mark.parametrize("limit", [None, 2])
def test_images_that_are_not_wanted_are_not_unpacked(limit, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for label in ("a", "b"):
        (tmp_path / "i" / label).mkdir(parents=True)
        for number in range(4):
            image.new("L", (2, 2), number).save(tmp_path / "i" / label / f"{number}.png")
    (tmp_path / "i" / "b" / "1.png").write_bytes(b"no image")
    (tmp_path / "d.toml").write_text('schema = 1\nfile = "i"\n')
    inputs = (TensorSpec("row", "float32", ("batch", 2, 2)),)
    if limit is None:
        with pytest.raises(InputRefusedError, match=r"1\.png"):
            load_data(tmp_path / "d.toml", inputs=inputs)
        return
    data, apart = load_samples(
        tmp_path / "d.toml", None, inputs=inputs, limit=limit, needs_calibration=True
    )
    assert data.inputs["row"][:, 0, 0].tolist() == [0, 0]
    assert apart.inputs["row"][:, 0, 0].tolist() == [3, 3]
    assert data.source.files == apart.source.files


def test_rows_as_runs():
    assert as_slices(np.array([0, 1, 4, 6, 7])) == [slice(0, 2), slice(4, 5), slice(6, 8)]
    assert as_slices(np.array([], dtype=np.int64)) == []
