from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from cimrobust.data import parquet_columns
from cimrobust.data.load_dataset import load_data
from cimrobust.data.parquet_columns import no_steps, read_parquet_columns
from cimrobust.data.row_choice import Wanted
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.onnx_io.network import TensorSpec


def written(folder: Path, columns: dict[str, object], **options: int) -> Path:
    path = folder / "d.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def png(value: int, size: int = 4) -> bytes:
    image = pytest.importorskip("PIL.Image").new("RGB", (size, size), (value, 0, 0))
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def test_columns_are_arrays_of_their_names(tmp_path):
    nested = np.arange(24.0).reshape(4, 2, 3)
    path = written(
        tmp_path,
        {
            "a": pa.array([1, 2, 3, 4], pa.int16()),
            "b": pa.array(nested.tolist()),
            "c": pa.array(["x", "y", "x", "y"]).dictionary_encode(),
        },
    )
    found = read_parquet_columns(path, {"a", "b", "c"}, no_steps, None).arrays
    assert found["a"].dtype == np.int16
    np.testing.assert_array_equal(found["a"], [1, 2, 3, 4])
    np.testing.assert_array_equal(found["b"], nested)
    assert found["c"].tolist() == ["x", "y", "x", "y"]


def test_without_x_and_y_columns_are_read_as_of_csv(tmp_path):
    path = written(tmp_path, {"p": [1.0, 2.0], "label": [0, 1], "q": [3.0, 4.0], "t": ["a", "b"]})
    dataset = load_data(path, inputs=[TensorSpec("in", "float32", (None, 2))])
    np.testing.assert_array_equal(dataset.inputs["in"], np.float32([[1, 3], [2, 4]]))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1]


@pytest.mark.parametrize(("name", "is_file"), [("d.arrow", True), ("d.arrow", False)])
def test_files_and_streams_of_arrow_are_read_as_parquet_is(name, is_file, tmp_path):
    table = pa.table({"p": [1.0, 2.0, 5.0], "label": [0, 1, 0], "q": [3.0, 4.0, 6.0]})
    opened = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with pa.OSFile(str(tmp_path / name), "wb") as sink, opened(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    spec = TensorSpec("in", "float32", (None, 2))
    dataset = load_data(tmp_path / name, inputs=[spec], limit=3)
    np.testing.assert_array_equal(dataset.inputs["in"], np.float32([[1, 3], [2, 4], [5, 6]]))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("version", "said"), [(2, None), (1, "must be of version 2, got version")])
def test_feather_is_read_in_its_second_version(version, said, tmp_path):
    table = pa.table({"x": [1.0, 2.0], "y": [0, 1]})
    feather.write_feather(table, tmp_path / "d.feather")
    if said is None:
        found = read_parquet_columns(tmp_path / "d.feather", {"x"}, no_steps, None).arrays
        assert found["x"].tolist() == [1.0, 2.0]
    else:
        (tmp_path / "d.feather").write_bytes(b"FEA1" + bytes(20))
        with pytest.raises(InputRefusedError, match=f"Feather file {said} 1"):
            read_parquet_columns(tmp_path / "d.feather", {"x"}, no_steps, None)


def test_offsets_of_arrow_that_lead_out_of_the_file_are_refused(tmp_path):
    path = tmp_path / "d.arrow"
    batch = pa.record_batch({"x": ["abcd", "efgh"]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    right, wrong = (np.array([0, 4, end], np.int32).tobytes() for end in (8, 2**30))
    path.write_bytes(path.read_bytes().replace(right, wrong))
    with pytest.raises(InputRefusedError, match="data file must be a sound Arrow file"):
        read_parquet_columns(path, {"x"}, no_steps, None)


def test_decimals_are_numbers(tmp_path):
    path = written(tmp_path, {"x": pa.array([Decimal("1.25"), Decimal("-0.50")]), "y": [0, 1]})
    found = read_parquet_columns(path, {"x"}, no_steps, None).arrays
    np.testing.assert_array_equal(found["x"], [1.25, -0.5])


@pytest.mark.parametrize("order", [None, [2, 0, 1]])
def test_tensors_of_one_shape_are_arrays(tmp_path, order):
    stored = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4)
    kind = pa.fixed_shape_tensor(pa.float32(), (2, 3, 4), permutation=order)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), 24)
    path = written(tmp_path, {"x": pa.ExtensionArray.from_storage(kind, flat)})
    found = read_parquet_columns(path, {"x"}, no_steps, None).arrays
    # Arrow's specification: axis i of the tensor is axis permutation[i] of what is stored.
    expected = stored if order is None else stored.transpose(0, *(1 + axis for axis in order))
    np.testing.assert_array_equal(found["x"], expected)


def test_columns_of_other_kinds_are_named_where_all_are_asked_for(tmp_path):
    times = pa.array([0, 1]).cast(pa.timestamp("ms"))
    path = written(tmp_path, {"x": [0.0, 1.0], "when": times})
    assert read_parquet_columns(path, None, no_steps, None).unread == {"when": "timestamp[ms]"}
    assert read_parquet_columns(path, {"x"}, no_steps, None).unread == {}


@pytest.mark.parametrize("as_struct", [True, False])
def test_encoded_images_are_unpacked_and_resized(tmp_path, as_struct):
    contents = [png(10, 4), png(20, 6)]
    column = [{"bytes": each, "path": "p"} for each in contents] if as_struct else contents
    written(tmp_path, {"image": column, "label": [0, 1]})
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "d.parquet"\n[[input]]\narray = "image"\nsteps = [{ op = "resize",'
        ' size = [2, 2] }, { op = "transpose", perm = [0, 3, 1, 2] }]\n[label]\narray = "label"\n'
    )
    dataset = load_data(tmp_path / "d.toml", inputs=[TensorSpec("in", "float32", (None, 3, 2, 2))])
    assert dataset.inputs["in"][:, 0, 0, 0].tolist() == [10, 20]


def test_only_wanted_rows_of_their_row_groups_are_unpacked(tmp_path, monkeypatch):
    path = written(
        tmp_path, {"x": [[float(i)] for i in range(100)], "y": [0] * 100}, row_group_size=10
    )
    seen: list[int] = []
    values = parquet_columns._values

    def noted(part: pa.Array, where: str) -> np.ndarray:
        seen.append(len(part))
        return values(part, where)

    monkeypatch.setattr(parquet_columns, "_values", noted)
    raw = read_parquet_columns(path, {"x"}, no_steps, Wanted(2).of("y"))
    assert (seen, raw.arrays["x"].tolist()) == ([2], [[0.0], [1.0]])
    assert raw.taken is not None
    assert raw.taken.lengths == {"x": 100}


def test_labels_that_are_not_counted_are_passed_over(tmp_path):
    path = written(tmp_path, {"x": list(range(600)), "y": [-1] * 300 + [1] * 300})
    raw = read_parquet_columns(path, {"x", "y"}, no_steps, Wanted(2).of("y", (-1,)))
    assert raw.arrays["x"].tolist() == [300, 301]
    assert raw.taken is not None
    assert raw.taken.num_ignored == 300


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1.0, None]), "got a gap"),
        (pa.array([[1.0], [1.0, 2.0]]), r"lists of lengths \[1, 2\]"),
        (pa.array([[1.0], None]), "or gaps"),
        (pa.array([[1.0, None], [1.0, 2.0]]), "got a gap"),
        (pa.array([b"no image", b"none"]), "image must be readable"),
    ],
)
def test_uneven_columns_are_refused(column, said, tmp_path):
    path = written(tmp_path, {"x": column, "y": [0, 1]})
    with pytest.raises(InputRefusedError, match=said):
        read_parquet_columns(path, {"x"}, no_steps, None)


def test_a_column_of_another_kind_is_refused(tmp_path):
    path = written(tmp_path, {"x": pa.array([{"a": 1}, {"a": 2}]), "y": [0, 1]})
    with pytest.raises(UsageError, match=r"columns must hold numbers.*column 'x'"):
        read_parquet_columns(path, {"x"}, no_steps, None)


def test_damaged_files_are_refused(tmp_path):
    path = written(tmp_path, {"x": [1.0, 2.0], "y": [0, 1]})
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(InputRefusedError, match="data file must be a sound Parquet file"):
        read_parquet_columns(path, {"x"}, no_steps, None)
