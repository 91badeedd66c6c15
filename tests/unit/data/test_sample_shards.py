from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cimrobust.data import sample_shards as shards
from cimrobust.data.load_dataset import load_data
from cimrobust.data.parquet_columns import no_steps
from cimrobust.data.row_choice import Wanted
from cimrobust.data.sample_shards import read_shards
from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.onnx_io.network import TensorSpec

Members = list[tuple[str, bytes]]


def shard(path: Path, members: Members, kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kind
            info.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            archive.addfile(info, io.BytesIO(content))
    return path


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def png(value: int) -> bytes:
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4), (value, 0, 0))
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def numbered(first: int, count: int) -> Members:
    members: Members = []
    for number in range(first, first + count):
        members += [
            (f"s/{number:04}.npy", npy(np.float32([number, 1]))),
            (f"s/{number:04}.json", b"{}"),
            (f"s/{number:04}.cls", f"{number % 2}\n".encode()),
        ]
    return members


def test_samples_of_all_shards_of_a_folder_come_in_order(tmp_path):
    shard(tmp_path / "b.tar", numbered(3, 2))
    shard(tmp_path / "a.tar", numbered(0, 3))
    (tmp_path / "d.toml").write_text('schema = 1\nfile = "."\n')
    dataset = load_data(tmp_path / "d.toml", inputs=[TensorSpec("in", "float32", (None, 2))])
    assert dataset.inputs["in"][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 0, 1, 0]
    assert sorted(dataset.source.files) == ["a.tar", "b.tar", "d.toml"]


def test_a_limit_unpacks_no_more_samples(tmp_path, monkeypatch):
    path, read = shard(tmp_path / "a.tar", numbered(0, 50)), shards._array
    seen: list[str] = []
    monkeypatch.setattr(
        shards, "_array", lambda content, where: (seen.append(where), read(content, where))[1]
    )
    raw = read_shards([path], no_steps, Wanted(2).of("y"))
    assert (len(seen), raw.arrays["x"][:, 0].tolist()) == (2, [0, 1])
    assert raw.taken is not None
    assert raw.taken.lengths == {"x": 50, "y": 50}


def test_labels_that_are_not_counted_are_passed_over(tmp_path):
    path = shard(tmp_path / "a.tar", numbered(0, 10))
    raw = read_shards([path], no_steps, Wanted(2).of("y", (0,)))
    assert raw.arrays["x"][:, 0].tolist() == [1, 3]
    assert raw.taken is not None
    assert raw.taken.num_ignored == 5


@pytest.mark.parametrize(
    ("texts", "labels"),
    [
        (["-1", "+2"], [-1, 2]),
        (["1_0", "2"], ["1_0", "2"]),
        (["\u0663", "2"], ["\u0663", "2"]),
        (["9" * 19, "2"], ["9" * 19, "2"]),
    ],
)
def test_labels_are_numbers_only_where_all_are_written_as_numbers(texts, labels, tmp_path):
    members = [
        member
        for key, text in enumerate(texts)
        for member in ((f"{key}.npy", npy(np.ones(2))), (f"{key}.cls", text.encode()))
    ]
    raw = read_shards([shard(tmp_path / "a.tar", members)], no_steps, None)
    assert raw.arrays["y"].tolist() == labels


def test_images_are_resized_and_named_classes_are_labels(tmp_path):
    shard(
        tmp_path / "a.tar",
        [("1.png", png(10)), ("1.cls", b"cat"), ("2.png", png(20)), ("2.cls", b"dog")],
    )
    (tmp_path / "d.toml").write_text(
        'schema = 1\nfile = "a.tar"\n[[input]]\nsteps = [{ op = "resize", size = [2, 2] }]\n'
        '[label]\narray = "y"\nclasses = ["dog", "cat"]\n'
    )
    dataset = load_data(tmp_path / "d.toml", inputs=[TensorSpec("in", "float32", (None, 2, 2, 3))])
    assert dataset.inputs["in"][:, 0, 0, 0].tolist() == [10, 20]


def test_named_members_are_arrays_of_their_names(tmp_path):
    path = shard(tmp_path / "a.tar", [("1.left.npy", npy(np.ones(2))), ("1.npy", npy(np.zeros(3)))])
    assert {
        name: array.shape for name, array in read_shards([path], no_steps, None).arrays.items()
    } == {
        "left": (1, 2),
        "x": (1, 3),
    }


@pytest.mark.parametrize(
    ("members", "kind", "said"),
    [
        ([("../1.npy", npy(np.ones(2)))], tarfile.REGTYPE, "a path that leads out"),
        ([("/1.npy", npy(np.ones(2)))], tarfile.REGTYPE, "a path that leads out"),
        ([("1.npy", b"")], tarfile.SYMTYPE, "a link or another kind"),
        ([("1.npy", b"")], tarfile.LNKTYPE, "a link or another kind"),
        ([("1.npy", b"")], tarfile.FIFOTYPE, "a link or another kind"),
        (
            [("1.npy", npy(np.ones(2))), ("1.NPY", npy(np.ones(2)))],
            tarfile.REGTYPE,
            "sample must have one member for array 'x', got two",
        ),
        ([("1.npy", b"no array")], tarfile.REGTYPE, "member must be an array"),
        ([("1.npy", npy(np.array(["a"])))], tarfile.REGTYPE, "arrays must hold numbers"),
        ([("1.npy", npy(np.ones(9))[:-8])], tarfile.REGTYPE, "array must have 72 bytes"),
        ([("1.png", b"no image")], tarfile.REGTYPE, "image must be readable"),
        (
            [("1.npy", npy(np.ones(2))), ("2.npy", npy(np.ones(3)))],
            tarfile.REGTYPE,
            "alike in all samples",
        ),
        ([("1.npy", npy(np.ones(2))), ("2.cls", b"1")], tarfile.REGTYPE, "members of the first"),
        ([("1.npy", npy(np.ones(2))), ("1.jpg", b"")], tarfile.REGTYPE, "got two"),
        ([("1.npy", npy(np.ones(2))), ("1.cls", b"1" * 300)], tarfile.REGTYPE, "at most 256 bytes"),
        ([("1.npy", npy(np.ones(2))), ("1.cls", b"\xff")], tarfile.REGTYPE, "label must be text"),
    ],
)
def test_unsafe_and_damaged_members_are_refused(members, kind, said, tmp_path):
    path = shard(tmp_path / "a.tar", members, kind)
    with pytest.raises(InputRefusedError, match=said):
        read_shards([path], no_steps, None)


def test_a_member_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    info = tarfile.TarInfo("1.npy")
    info.size = 2**40
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf() + bytes(1024))
    with pytest.raises(InputRefusedError, match="at most 268435456 bytes, got 1099511627776"):
        read_shards([path], no_steps, None)


@pytest.mark.parametrize("change", [lambda content: content[:700], lambda content: b"none" * 300])
def test_damaged_shards_are_refused(change, tmp_path):
    path = shard(tmp_path / "a.tar", numbered(0, 2))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputRefusedError):
        read_shards([path], no_steps, None)


def test_shards_without_samples_are_refused(tmp_path):
    path = shard(tmp_path / "a.tar", [("1.txt", b"none")])
    with pytest.raises(UsageError, match="shards must hold samples"):
        read_shards([path], no_steps, None)


def test_a_shard_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = shard(tmp_path / "a.tar", [("1.npy", npy(np.ones(9000)))])

    def shrink(name):
        with path.open("r+b") as file:
            file.truncate(1000)
        return ()

    with pytest.raises(InputRefusedError, match="member must have 72128 bytes, got"):
        read_shards([path], shrink, None)
