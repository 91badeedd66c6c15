"""The one door for files: kind and size are checked before anything is read."""

from __future__ import annotations

import os
import socket

import pytest

from cimrobust.errors import InputRefusedError, UsageError
from cimrobust.files import sha256_of
from cimrobust.input_file import (
    FileKind,
    open_input,
    printable,
    read_input,
    read_whole,
    refusing_what_fails,
)

KIND = FileKind("policy", 100)


def fifo(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (fifo, InputRefusedError, r"policy must be a regular file, got a pipe \(FIFO\) .*thing"),
        (listening, InputRefusedError, "got a socket"),
        (lambda path: path.symlink_to("/dev/zero"), InputRefusedError, "got a character device"),
        (lambda path: path.mkdir(), UsageError, "got a folder"),
        (lambda path: path.symlink_to(path), UsageError, "symbolic links"),
        (lambda path: path.symlink_to("nowhere"), UsageError, "No such file"),
        (
            lambda path: path.write_bytes(bytes(101)),
            InputRefusedError,
            "must have at most 100 bytes, got 101",
        ),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n"),
            InputRefusedError,
            "policy must hold its content, got a pointer of Git LFS to it .*git lfs pull",
        ),
        (lambda path: None, UsageError, "No such file"),
    ],
)
def test_only_regular_files_of_a_size_are_read(make, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name may not be long
    make(tmp_path / "thing") if make is not listening else listening("thing")
    with pytest.raises(error, match=text):
        read_input(tmp_path / "thing", KIND)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_that_no_file_can_have(name, tmp_path):
    with pytest.raises(UsageError, match="policy must be a readable file"):
        read_input(tmp_path / name, KIND)


def test_a_file_that_cannot_be_read_to_its_end_is_refused(tmp_path):
    """A disk that fails, or a folder of the network that is gone."""
    (tmp_path / "file").write_bytes(b"text")

    class Failing:
        def __init__(self, real):
            self.fileno = real.fileno

        def read(self, size):
            raise OSError(5, "Input/output error")

    message = "policy must be readable, got 'Input/output error'"
    with (tmp_path / "file").open("rb") as real, pytest.raises(UsageError, match=message):
        read_whole(Failing(real), tmp_path / "file", KIND)


def test_a_link_to_a_file_is_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert read_input(tmp_path / "link", KIND) == b"text"


def test_a_file_that_becomes_a_pipe_between_two_looks_is_refused(tmp_path, monkeypatch):
    path, plain = tmp_path / "file", tmp_path / "plain"
    fifo(path)
    plain.write_bytes(b"")
    status = plain.stat()
    monkeypatch.setattr("pathlib.Path.stat", lambda *_, **__: status)
    with pytest.raises(InputRefusedError, match="got a pipe"):
        read_input(path, KIND)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"text")
    with open_input(path, KIND) as stream:
        size = os.fstat(stream.fileno())
    path.write_bytes(b"text and more")
    monkeypatch.setattr("os.fstat", lambda _: size)
    with pytest.raises(
        InputRefusedError, match="must not change while it is read, got 5 of 4 bytes"
    ):
        read_input(path, KIND)


def test_digests_are_of_regular_files(tmp_path):
    fifo(tmp_path / "pipe")
    with pytest.raises(InputRefusedError, match="got a pipe"):
        sha256_of(tmp_path / "pipe")


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), OverflowError("a b"), SyntaxError("a b"), RuntimeError("a b")]
)
def test_what_a_library_raises_is_the_fault_of_the_file(error):
    with (
        pytest.raises(InputRefusedError, match="archive must be whole, got: a b"),
        refusing_what_fails("archive must be whole", "f", hint="h"),
    ):
        raise error


def test_memory_that_a_file_asks_for_is_the_fault_of_the_file():
    with (
        pytest.raises(InputRefusedError, match="more memory than there is: MemoryError"),
        refusing_what_fails("a", "f", hint="h"),
    ):
        raise MemoryError


def test_names_cannot_forge_lines_or_colours():
    assert printable("a\nerror: \x1b[31mb") == "a error: ?[31mb"


def test_reasons_of_libraries_are_the_same_in_every_run():
    with (
        pytest.raises(InputRefusedError, match=r"got: no image in _io\.BytesIO \(ValueError\)"),
        refusing_what_fails("image must be readable", "f", hint="h"),
    ):
        raise ValueError("no image in <_io.BytesIO object at 0x7f08b076a200>")
